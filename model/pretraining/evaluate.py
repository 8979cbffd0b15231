"""Masked-LM and next-sentence scores of weights on held-out records: of a checkpoint, and of a training on its way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.records.reader import Records, host_share, open_records, require_tokenizer
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.best import Measure
from bertline.model.training.checkpoint import Arrays, Checkpoint, read_checkpoint, select
from bertline.progress import Progress, say
from bertline.settings import BACKENDS, PRECISIONS, one_of, require_at_least, require_choices, require_length

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights
    from bertline.model.pretraining.config import PretrainConfig
    from bertline.model.training.backends.choice import Hosts

Scores = dict[str, int | float]

LARGEST_EXPONENT = 700.0  # beyond, a float has no exponential
LOGGED = ("masked_lm_loss", "masked_lm_accuracy", "perplexity", "next_sentence_loss", "next_sentence_accuracy")
# What the original writes, in the order of its file.
RESULTS = (
    "global_step",
    "loss",
    "masked_lm_accuracy",
    "masked_lm_loss",
    "next_sentence_accuracy",
    "next_sentence_loss",
)


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate; the records say at which length."""

    eval_batch_size: int = 32  # records that are scored at a time; any number gives the same scores but for rounding
    max_examples: int = 0  # how many records are scored, from the first; 0: all
    trained_on: bool = field(default=False, metadata={"volatile": True})  # whether records of documents to train on are
    # scored, too, to see what a model has learned by heart

    # the machine:
    backend: str = one_of("", ("", *BACKENDS))  # what computes; none: the variable KERAS_BACKEND's, or tensorflow
    precision: str = one_of("float32", PRECISIONS)  # precision of the computation; mixed_bfloat16 is faster on
    # processors that have it
    jit_compile: bool = True  # whether XLA compiles, as in pretraining

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "eval_batch_size")
        require_at_least(self, 0, "max_examples")
        require_choices(self)


def run(checkpoint: Path, records: Path, out: Path, config: EvaluateConfig) -> dict[str, int | float]:
    """Score every record once; writes scores.json and eval_results.txt into `out` and returns the scores."""
    use_backend(config.backend)

    model = read_checkpoint(checkpoint)
    select(model.weights, pretraining_shapes(model.bert_config), checkpoint)
    examples = open_records(records, vocab_size=model.bert_config.vocab_size)
    require_tokenizer(records, model.vocabulary, model.do_lower_case)
    scores = score_model(model, examples, config)
    (out / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "eval_results.txt").write_text(format_results(scores), encoding="utf-8")
    return scores


def score_model(model: Checkpoint, examples: Records, config: EvaluateConfig) -> Scores:
    """The scores of a model with both heads, each record once; ValueError for records longer than its positions."""
    from bertline.model.training.backends.choice import compile_forward

    require_length(examples.max_seq_length, model.bert_config.max_position_embeddings)
    count = min(len(examples), config.max_examples or len(examples))
    forward = compile_forward(
        lambda weights, batch: measure(weights, model.bert_config, batch, config.precision),
        model.weights,
        jit_compile=config.jit_compile,
    )
    totals: dict[str, float] = {}
    with Progress("evaluate", count, "examples") as progress:
        for batch in _cut_batches(examples, count, config.eval_batch_size):
            _add_sums(totals, forward(batch))
            progress.advance(int(batch["example_weights"].sum()))
    return {"global_step": model.state["step"], **_average(totals)}


def format_results(scores: Scores) -> str:
    """The original's file: sorted "key = value" lines, in the digits of a float32."""
    return "".join(f"{name} = {_format_number(scores[name])}\n" for name in RESULTS)


def open_heldout(folder: Path | None, config: PretrainConfig, vocab_size: int) -> Records | None:
    """The held-out records of a stage, if it has any; refused like records of training, and settings without them."""
    if folder is not None:
        return open_records(folder, config.max_seq_length, vocab_size)
    if config.eval_every_steps:
        raise ValueError(
            f"eval_every_steps is {config.eval_every_steps}, but no held-out records are given; "
            "give some (heldout), or leave it out"
        )
    return None


class HeldoutScore:
    """The score of a stage of pretraining, on held-out records (bertline.model.training.stage.Score)."""

    measure = Measure("masked_lm_loss")

    def __init__(self, examples: Records, shape: BertConfig, config: PretrainConfig, hosts: Hosts) -> None:
        """Of several `hosts`, each computes its rows of every batch."""
        self._examples, self._shape, self._config, self._hosts = examples, shape, config, hosts
        self._count = min(len(examples), config.max_eval_examples or len(examples))
        say(f"held-out records: {self._count:,} of {len(examples):,} examples")

    def compute(self, weights: Weights, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over a batch."""
        return measure(weights, self._shape, batch, self._config.precision)

    def score(self, forward: Callable[[Arrays], Any], stopping: Callable[[], bool]) -> Scores | None:
        """Means over the records, each counted once; None once `stopping` says so."""
        devices = self._config.devices
        size = -(-min(self._config.eval_batch_size, self._count) // devices) * devices
        mine = host_share(size, self._hosts.number, self._hosts.count)
        totals: dict[str, float] = {}
        for batch in _cut_batches(self._examples, self._count, size):
            if stopping():
                return None
            _add_sums(totals, forward({name: values[mine] for name, values in batch.items()}))
        scores = _average(totals)
        return {name: scores[name] for name in LOGGED}

    def describe(self, scores: Mapping[str, float]) -> str:
        """The scores as the user is told of them."""
        return (
            f"masked-LM loss {scores['masked_lm_loss']:.4f} nats (perplexity {scores['perplexity']:,.2f}, "
            f"{scores['masked_lm_accuracy']:.1%} right), next sentence {scores['next_sentence_loss']:.4f} "
            f"({scores['next_sentence_accuracy']:.1%} right)"
        )


def measure(weights: Weights, shape: BertConfig, batch: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Sums over the predictions and examples of a batch, computed in that precision; filling has weight 0."""
    from keras import ops

    from bertline.model import heads
    from bertline.model.bert import in_precision

    weights = in_precision(weights, precision)
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


def _is_right(logits: Tensor, labels: Tensor) -> Tensor:
    from keras import ops

    return ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")


def _cut_batches(examples: Records, count: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` records in order, each once; filling has weight 0 everywhere."""
    for first in range(0, count, batch_size):
        wanted = np.arange(first, first + batch_size)
        batch = examples.batch(np.minimum(wanted, count - 1))
        batch["example_weights"] = (wanted < count).astype(np.float32)
        batch["masked_lm_weights"] = batch["masked_lm_weights"] * batch["example_weights"][:, None]
        yield batch


def _add_sums(totals: dict[str, float], sums: Mapping[str, Any]) -> None:
    """Add a batch's sums to those of the batches before."""
    for name, value in sums.items():
        totals[name] = totals.get(name, 0.0) + float(value)


def _average(totals: Mapping[str, float]) -> Scores:
    """Means over all predictions and examples; loss is their sum (the original's is a mean of batches')."""
    if not totals["predictions"]:
        raise ValueError("no record has a masked position; prepare the records again")
    masked_lm_loss = totals["word_loss"] / totals["predictions"]
    next_sentence_loss = totals["sentence_loss"] / totals["examples"]
    return {
        "examples": int(totals["examples"]),
        "loss": masked_lm_loss + next_sentence_loss,
        "masked_lm_accuracy": totals["words_right"] / totals["predictions"],
        "masked_lm_loss": masked_lm_loss,
        "next_sentence_accuracy": totals["sentences_right"] / totals["examples"],
        "next_sentence_loss": next_sentence_loss,
        "perplexity": math.exp(min(masked_lm_loss, LARGEST_EXPONENT)),
        "predictions": int(totals["predictions"]),
    }


def _format_number(value: float) -> str:
    return str(value) if isinstance(value, int) else str(np.float32(value))
