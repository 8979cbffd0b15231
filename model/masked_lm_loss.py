"""The masked-word output layer with its loss, a few predictions at a time: logits of all are never held."""

from collections.abc import Callable

import keras
from keras import ops

from bertline.model.bert import Tensor

# Of float32 logits held at a time: what a processor's last cache holds; accelerators want few large products.
CHUNK_BYTES = {"tensorflow": 1 << 26, "jax": 1 << 29}


def summed_surprise(hidden: Tensor, embeddings: Tensor, bias: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
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
            part = slice(first, first + width)
            rows = ops.reshape(hidden[:, part], (-1, size))
            loss, scores = _scored(rows, kernel, bias, labels[:, part], weights[:, part])
            total = total + loss
            of_hidden.append(ops.reshape(ops.matmul(scores, embeddings), (batch, -1, size)))
            of_embeddings = of_embeddings + ops.cast(ops.matmul(ops.transpose(scores), rows), "float32")
            of_bias = of_bias + ops.sum(ops.cast(scores, "float32"), axis=0)
        joined = ops.concatenate(of_hidden, axis=1)

        def gradient(*upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            scale = upstream[0]
            return (
                ops.cast(scale, hidden.dtype) * joined,
                ops.cast(scale * of_embeddings, embeddings.dtype),
                scale * of_bias,
            )

        return total, gradient

    return with_gradients(hidden, embeddings, bias)


def _scored(rows: Tensor, kernel: Tensor, bias: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
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
