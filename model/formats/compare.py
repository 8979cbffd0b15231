"""Two models on the same text: the largest difference of what they compute."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertline.model.formats.loaded_model import ANSWER_SPANS, CLASSIFIER, MASKED_LM, NEXT_SENTENCE, POOLER, find_heads
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer, parse_vocabulary

PAIRS, LONGEST = 6, 48  # of texts, and word pieces in each pair
PREDICTIONS = 4
PER_TOKEN = ("last_hidden_state", "answer_span_logits")  # [N, W, ...]: padding does not count

Batch = dict[str, np.ndarray]
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """One output of both sides, compared."""

    what: str  # hidden_states, pooled_output, masked_lm_logits ...
    side: str  # who computed the other side: read_back, savedmodel, onnx
    largest: float  # absolute
    scale: float = 1.0  # the output's own largest value, or 1: rounding grows with it


def sample_batch(checkpoint: Checkpoint, seed: int = 0) -> Batch:
    """Pairs of texts of the vocabulary's own words, lengths mixed: input_ids, input_mask, segment_ids [N, W]."""
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    words = [token for token in vocabulary.tokens if token.isalnum()] or list(vocabulary.tokens[-1:])
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(words, random.integers(1, 30))) for _ in range(2 * PAIRS)]
    tokenizer = WordPieceTokenizer(vocabulary, checkpoint.do_lower_case)
    width = min(LONGEST, checkpoint.bert_config.max_position_embeddings)
    return encode_pairs(tokenizer, texts[:PAIRS], texts[PAIRS:], width)


def compute_outputs(checkpoint: Checkpoint, batch: Mapping[str, np.ndarray]) -> Outputs:
    """What our own model computes of a batch: hidden states of all layers, and the outputs of its heads."""
    from bertline.model import heads

    weights, config = checkpoint.weights, checkpoint.bert_config
    present = find_heads(weights, config, Path())
    encoded = heads.encode_batch(weights, config, batch)
    outputs = {"hidden_states": np.stack([np.asarray(each) for each in (encoded.embeddings, *encoded.layers)])}
    outputs["last_hidden_state"] = outputs["hidden_states"][-1]
    if POOLER in present:
        outputs["pooled_output"] = np.asarray(encoded.pooled)
    if MASKED_LM in present:
        logits = heads.masked_lm_logits(weights, config, encoded.sequence, _make_positions(batch))
        outputs["masked_lm_logits"] = np.asarray(logits)
    if NEXT_SENTENCE in present and POOLER in present:
        outputs["next_sentence_logits"] = np.asarray(heads.next_sentence_logits(weights, encoded.pooled))
    if CLASSIFIER in present and POOLER in present:
        outputs["classifier_logits"] = np.asarray(heads.classifier_logits(weights, encoded.pooled))
    if ANSWER_SPANS in present:
        outputs["answer_span_logits"] = np.asarray(heads.span_logits(weights, encoded.sequence))
    return outputs


def compare_outputs(ours: Outputs, theirs: Outputs, side: str, used: np.ndarray) -> list[Difference]:
    """The largest difference of each output that both sides have, at tokens in use (`used` [N, W])."""
    found = []
    for what, values in theirs.items():
        if what in ours:
            wide = ours[what].astype(np.float64)
            both = np.abs(wide - values.astype(np.float64))
            if what == "hidden_states":
                both = both[:, used.astype(bool)]
            elif what in PER_TOKEN:
                both = both[used.astype(bool)]
            found.append(Difference(what, side, float(both.max(initial=0.0)), max(1.0, float(np.abs(wide).max()))))
    return found


def run_savedmodel(folder: Path, batch: Mapping[str, np.ndarray]) -> Outputs:
    """What a SavedModel with the hub's interface computes."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    names = {"input_word_ids": "input_ids", "input_mask": "input_mask", "input_type_ids": "segment_ids"}
    inputs = {theirs: tf.constant(batch[ours]) for theirs, ours in names.items()}
    outputs = model(inputs)
    found = {"last_hidden_state": outputs["sequence_output"].numpy()}
    if "pooled_output" in outputs:
        found["pooled_output"] = outputs["pooled_output"].numpy()
    if "mlm" in model.signatures:
        computed = model.signatures["mlm"](**inputs, masked_lm_positions=tf.constant(_make_positions(batch)))
        found["masked_lm_logits"] = computed["mlm_logits"].numpy()
    for signature, output in (("next_sentence", "next_sentence_logits"), ("classify", "classifier_logits")):
        if signature in model.signatures:
            found[output] = model.signatures[signature](**inputs)["logits"].numpy()
    if "answer_spans" in model.signatures:
        computed = model.signatures["answer_spans"](**inputs)
        found["answer_span_logits"] = np.stack([computed[f"{end}_logits"].numpy() for end in ("start", "end")], axis=-1)
    return found


def _make_positions(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The positions whose words are predicted, int32 [N, PREDICTIONS]."""
    return np.tile(np.arange(1, PREDICTIONS + 1, dtype=np.int32), (len(batch["input_ids"]), 1))


def count_tokenizer_differences(folder: Path, checkpoint: Checkpoint) -> int:
    """How many of some sample texts the folder's tokenizer.json encodes differently."""
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    ours = WordPieceTokenizer(vocabulary, checkpoint.do_lower_case)
    words = [token for token in vocabulary.tokens if token not in SPECIAL_TOKENS and not token.startswith("[unused")]
    random = np.random.default_rng(0)
    texts = ["Caf\u00e9 na\u00efve, \u4f7f\u7528 \u8bed\u8a00; UNwanted running."]
    texts += [" ".join(random.choice(words, 20)).replace("##", "") for _ in range(20)]
    return sum(theirs.encode(text, add_special_tokens=False).ids != ours.encode(text) for text in texts)
