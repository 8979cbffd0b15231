"""The heads on the encoder: masked words, next sentence, classification, with their losses."""

from collections.abc import Callable, Mapping

import keras
from keras import ops

from bertline.model.bert import ACTIVATIONS, HEAD_PLACE, Dropout, Encoded, Tensor, Weights, dense, encode, layer_norm
from bertline.model.config import BertConfig

NO_DIVISION_BY_ZERO = 1e-5  # the original's, for a batch without a masked position
# Of float32 logits held at a time: what a processor's last cache holds; accelerators want few large products.
CHUNK_BYTES = {"tensorflow": 1 << 26, "jax": 1 << 29}
CLASSIFIER_DROPOUT = 0.1  # hard-coded in run_classifier, whatever the configuration says


def span_logits(weights: Weights, sequence: Tensor) -> Tensor:
    """Scores of [first, last], float32 [batch, length, 2]."""
    kernel = ops.transpose(weights["cls/squad/output_weights"])
    return ops.matmul(ops.cast(sequence, "float32"), kernel) + weights["cls/squad/output_bias"]


def masked_lm_logits(weights: Weights, config: BertConfig, sequence: Tensor, positions: Tensor) -> Tensor:
    """Scores of every vocabulary entry at the masked positions, float32 [batch, predictions, vocabulary]."""
    hidden = masked_hidden(weights, config, sequence, positions)
    logits = ops.matmul(hidden, ops.transpose(weights["bert/embeddings/word_embeddings"]))
    return ops.cast(logits, "float32") + weights["cls/predictions/output_bias"]


def masked_hidden(weights: Weights, config: BertConfig, sequence: Tensor, positions: Tensor) -> Tensor:
    """What the output layer multiplies, [batch, predictions, hidden]: transformed states of the masked positions."""
    batch, length, size = ops.shape(sequence)
    # Gathered first: an output layer on all positions would cost several times the small models.
    rows = ops.reshape(positions + ops.arange(batch, dtype=positions.dtype)[:, None] * length, (-1,))
    masked = ops.take(ops.reshape(sequence, (batch * length, size)), rows, axis=0)
    transformed = ACTIVATIONS[config.hidden_act](dense(weights, "cls/predictions/transform/dense", masked))
    normal = layer_norm(weights, "cls/predictions/transform/LayerNorm", transformed)
    return ops.reshape(normal, (batch, -1, size))


def next_sentence_logits(weights: Weights, pooled: Tensor) -> Tensor:
    """Scores of [is next, is random], float32 [batch, 2]."""
    kernel = ops.transpose(weights["cls/seq_relationship/output_weights"])
    return ops.matmul(ops.cast(pooled, "float32"), kernel) + weights["cls/seq_relationship/output_bias"]


def classifier_logits(weights: Weights, pooled: Tensor, dropout: Dropout | None = None) -> Tensor:
    """Scores of the labels, float32 [batch, labels]."""
    if dropout is not None:
        pooled = dropout(pooled, CLASSIFIER_DROPOUT, HEAD_PLACE)
    return ops.matmul(ops.cast(pooled, "float32"), ops.transpose(weights["output_weights"])) + weights["output_bias"]


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(logits)[label] for float32 [..., classes] and int32 [...]."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def encode_batch(
    weights: Weights,
    config: BertConfig,
    batch: Mapping[str, Tensor],
    dropout: Dropout | None = None,
    recompute: int = 0,
) -> Encoded:
    """The encoder on a batch of records or classification examples."""
    return encode(weights, config, batch["input_ids"], batch["input_mask"], batch["segment_ids"], dropout, recompute)


def pretraining_whole(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the losses of a batch are divided by: its masked positions, and its examples."""
    return {
        "predictions": ops.sum(batch["masked_lm_weights"]) + NO_DIVISION_BY_ZERO,
        "examples": float(batch["input_ids"].shape[0]),
    }


def pretraining_losses(
    weights: Weights,
    config: BertConfig,
    batch: Mapping[str, Tensor],
    whole: Mapping[str, Tensor],
    dropout: Dropout | None = None,
    recompute: int = 0,
) -> dict[str, Tensor]:
    """The loss and its two terms: mlm_loss, a mean over masked positions, and nsp_loss, one over examples.

    `batch` may be a micro-batch; `whole` is `pretraining_whole` of the whole batch, so that losses add up.
    """
    encoded = encode_batch(weights, config, batch, dropout, recompute)
    hidden = masked_hidden(weights, config, encoded.sequence, batch["masked_lm_positions"])
    output_layer = weights["bert/embeddings/word_embeddings"], weights["cls/predictions/output_bias"]
    surprise = sum_surprise(hidden, *output_layer, batch["masked_lm_ids"], batch["masked_lm_weights"])
    mlm_loss = surprise / whole["predictions"]
    is_next = next_sentence_logits(weights, encoded.pooled)
    nsp_loss = ops.sum(negative_log_likelihood(is_next, batch["next_sentence_labels"])) / whole["examples"]
    return {"loss": mlm_loss + nsp_loss, "mlm_loss": mlm_loss, "nsp_loss": nsp_loss}


def classifier_whole(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the loss of a batch is divided by: its examples."""
    return {"examples": float(batch["input_ids"].shape[0])}


def classifier_losses(
    weights: Weights,
    config: BertConfig,
    batch: Mapping[str, Tensor],
    whole: Mapping[str, Tensor],
    dropout: Dropout | None = None,
) -> dict[str, Tensor]:
    """Mean cross entropy of the labels; `whole` as in pretraining."""
    encoded = encode_batch(weights, config, batch, dropout)
    logits = classifier_logits(weights, encoded.pooled, dropout)
    return {"loss": ops.sum(negative_log_likelihood(logits, batch["label_ids"])) / whole["examples"]}


def sum_surprise(hidden: Tensor, embeddings: Tensor, bias: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The sum of weight * -log softmax(hidden @ embeddings.T + bias)[label], a float32 scalar.

    `hidden` [batch, predictions, hidden] and `embeddings` [vocabulary, hidden] have the precision of the products,
    `bias` [vocabulary] and `weights` [batch, predictions] are float32, `labels` int32 [batch, predictions]. The
    gradients are computed with the loss, chunk by chunk (as Liger Kernel does, arXiv 2410.10989), so it is for
    training alone.
    """

    @ops.custom_gradient
    def with_gradients(hidden: Tensor, embeddings: Tensor, bias: Tensor) -> tuple[Tensor, Callable[..., object]]:
        batch, predictions, size = hidden.shape
        width = _chunk_width(batch, predictions, embeddings.shape[0])
        total, of_hidden = 0.0, []
        of_embeddings = of_bias = 0.0
        kernel = ops.transpose(embeddings)
        for first in range(0, predictions, width):
            chunk = slice(first, first + width)
            rows = ops.reshape(hidden[:, chunk], (-1, size))
            loss, scores = _score_chunk(rows, kernel, bias, labels[:, chunk], weights[:, chunk])
            total = total + loss
            of_hidden.append(ops.reshape(ops.matmul(scores, embeddings), (batch, -1, size)))
            of_embeddings = of_embeddings + ops.cast(ops.matmul(ops.transpose(scores), rows), "float32")
            of_bias = of_bias + ops.sum(ops.cast(scores, "float32"), axis=0)
        of_all = ops.concatenate(of_hidden, axis=1)

        def gradient(*upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            scale = upstream[0]
            return (
                ops.cast(scale, hidden.dtype) * of_all,
                ops.cast(scale * of_embeddings, embeddings.dtype),
                scale * of_bias,
            )

        return total, gradient

    return with_gradients(hidden, embeddings, bias)


def _score_chunk(rows: Tensor, kernel: Tensor, bias: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A chunk's loss, and the gradient of its logits [rows, vocabulary] in the precision of `rows`."""
    labels, weights = ops.reshape(labels, (-1, 1)), ops.reshape(weights, (-1, 1))
    logits = ops.cast(ops.matmul(rows, kernel), "float32") + bias
    largest = ops.max(logits, axis=-1, keepdims=True)
    exponentials = ops.exp(logits - largest)
    total = ops.sum(exponentials, axis=-1, keepdims=True)
    right = ops.take_along_axis(logits, labels, axis=-1)
    loss = ops.sum((ops.log(total) + largest - right) * weights)
    is_label = ops.equal(ops.arange(bias.shape[0], dtype="int32")[None], labels)
    gradient = exponentials * (weights / total) - ops.where(is_label, weights, 0.0)
    return loss, ops.cast(gradient, rows.dtype)


def _chunk_width(batch: int, predictions: int, vocabulary: int) -> int:
    """Predictions of each example in a chunk: chunks of equal width as far as possible."""
    held = batch * predictions * vocabulary * 4
    chunks = min(predictions, max(1, round(held / CHUNK_BYTES[keras.backend.backend()])))
    return -(-predictions // chunks)
