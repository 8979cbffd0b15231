"""A checkpoint's masked-LM and next-sentence scores on held-out records."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.checkpoints.state import Checkpoint, read_checkpoint, select
from bertline.model.config import BertConfig
from bertline.model.progress import Progress
from bertline.model.records import Records, open_records
from bertline.model.validation import require_at_least, require_length, require_precision

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights

Scores = dict[str, int | float]


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate; the records say at which length."""

    eval_batch_size: int = 32  # examples at a time; a short last batch is filled up with weight 0
    max_examples: int = 0  # the first so many records; 0: all
    precision: str = "float32"  # or mixed_bfloat16
    jit_compile: bool = True  # by XLA, as in pretraining

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "eval_batch_size")
        require_at_least(self, 0, "max_examples")
        require_precision(self.precision)


def run(checkpoint: Path, records: Path, out: Path, config: EvaluateConfig) -> dict[str, int | float]:
    """Score every record once; writes scores.json and eval_results.txt into `out` and returns the scores."""
    from bertline.model.heads import pretraining_shapes

    model = read_checkpoint(checkpoint)
    select(model.weights, pretraining_shapes(model.bert_config), checkpoint)
    examples = open_records(records, vocab_size=model.bert_config.vocab_size)
    require_length(examples.max_seq_length, model.bert_config.max_position_embeddings)
    scores = _scores(_totals(model, examples, config), model.state["step"])
    (out / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "eval_results.txt").write_text(eval_results(scores), encoding="utf-8")
    return scores


def eval_results(scores: Scores) -> str:
    """The original's file: sorted "key = value" lines, in the digits of a float32."""
    names = (
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_loss",
    )
    return "".join(f"{name} = {_as_original(scores[name])}\n" for name in names)


def _totals(model: Checkpoint, examples: Records, config: EvaluateConfig) -> dict[str, float]:
    """Sums over all predictions and examples."""
    count = min(len(examples), config.max_examples or len(examples))
    measure = _compiled(model, config)
    totals: dict[str, float] = {}
    with Progress("evaluate", count, "examples") as progress:
        for batch in _batches(examples, count, config.eval_batch_size):
            for name, value in measure(batch).items():
                totals[name] = totals.get(name, 0.0) + float(value)
            progress.advance(int(batch["example_weights"].sum()))
    return totals


def _batches(examples: Records, count: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` records in order, each once; filling has weight 0 everywhere."""
    for first in range(0, count, batch_size):
        wanted = np.arange(first, first + batch_size)
        batch = examples.batch(np.minimum(wanted, count - 1))
        batch["example_weights"] = (wanted < count).astype(np.float32)
        batch["masked_lm_weights"] = batch["masked_lm_weights"] * batch["example_weights"][:, None]
        yield batch


def _compiled(model: Checkpoint, config: EvaluateConfig) -> Callable[[Mapping[str, np.ndarray]], dict[str, Any]]:
    from bertline.model.backends.choice import compiled_forward
    from bertline.model.bert import in_precision

    def measure(weights: "Weights", batch: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
        return _measure(in_precision(weights, config.precision), model.bert_config, batch)

    return compiled_forward(measure, model.weights, jit_compile=config.jit_compile)


def _measure(weights: "Weights", shape: BertConfig, batch: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Sums over a batch."""
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


def _scores(totals: Mapping[str, float], step: int) -> Scores:
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
        "perplexity": math.exp(min(masked_lm_loss, 700.0)),  # beyond, a float has no exponential
        "predictions": int(totals["predictions"]),
    }


def _as_original(value: float) -> str:
    return str(value) if isinstance(value, int) else str(np.float32(value))
