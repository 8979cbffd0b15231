"""Masked-LM and next-sentence scores of weights on records, each example counted once."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.config import BertConfig
from bertline.model.records.reader import Records

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights

Scores = dict[str, int | float]
Batch = Mapping[str, np.ndarray]

LARGEST_EXPONENT = 700.0  # beyond, a float has no exponential


def batches(examples: Records, count: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` records in order, each once; filling has weight 0 everywhere."""
    for first in range(0, count, batch_size):
        wanted = np.arange(first, first + batch_size)
        batch = examples.batch(np.minimum(wanted, count - 1))
        batch["example_weights"] = (wanted < count).astype(np.float32)
        batch["masked_lm_weights"] = batch["masked_lm_weights"] * batch["example_weights"][:, None]
        yield batch


def measure_of(shape: BertConfig, precision: str) -> Callable[["Weights", Mapping[str, "Tensor"]], dict[str, "Tensor"]]:
    """The function of (weights, batch) that a backend compiles: sums over a batch, computed in that precision."""
    from bertline.model.bert import in_precision

    return lambda weights, batch: _sums(in_precision(weights, precision), shape, batch)


def add_sums(totals: dict[str, float], sums: Mapping[str, Any]) -> None:
    """Add a batch's sums to those of the batches before."""
    for name, value in sums.items():
        totals[name] = totals.get(name, 0.0) + float(value)


def scores_of(totals: Mapping[str, float], step: int) -> Scores:
    """Means over all predictions and examples; loss is their sum (the original's is a mean of batches')."""
    if not totals["predictions"]:
        raise ValueError("no record has a masked position; prepare the records again")
    masked_lm_loss = totals["word_loss"] / totals["predictions"]
    next_sentence_loss = totals["sentence_loss"] / totals["examples"]
    return {
        "examples": int(totals["examples"]),
        "global_step": step,
        "loss": masked_lm_loss + next_sentence_loss,
        "masked_lm_accuracy": totals["words_right"] / totals["predictions"],
        "masked_lm_loss": masked_lm_loss,
        "next_sentence_accuracy": totals["sentences_right"] / totals["examples"],
        "next_sentence_loss": next_sentence_loss,
        "perplexity": math.exp(min(masked_lm_loss, LARGEST_EXPONENT)),
        "predictions": int(totals["predictions"]),
    }


def _sums(weights: "Weights", shape: BertConfig, batch: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    from keras import ops

    from bertline.model import heads

    encoded = heads.encode_batch(weights, shape, batch)
    words = heads.masked_lm_logits(weights, shape, encoded.sequence, batch["masked_lm_positions"])
    sentences = heads.next_sentence_logits(weights, encoded.pooled)
    word_weights, example_weights = batch["masked_lm_weights"], batch["example_weights"]
    word_loss = heads.negative_log_likelihood(words, batch["masked_lm_ids"])  # [batch, predictions]
    sentence_loss = heads.negative_log_likelihood(sentences, batch["next_sentence_labels"])  # [batch]
    return {
        "predictions": ops.sum(word_weights),
        "words_right": ops.sum(word_weights * _is_right(words, batch["masked_lm_ids"])),
        "word_loss": ops.sum(word_weights * word_loss),
        "examples": ops.sum(example_weights),
        "sentences_right": ops.sum(example_weights * _is_right(sentences, batch["next_sentence_labels"])),
        "sentence_loss": ops.sum(example_weights * sentence_loss),
    }


def _is_right(logits: "Tensor", labels: "Tensor") -> "Tensor":
    from keras import ops

    return ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")
