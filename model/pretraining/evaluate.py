"""A checkpoint's masked-LM and next-sentence scores on held-out records."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertline.model.pretraining.scoring import Scores, add_sums, batches, measure_of, scores_of
from bertline.model.records.reader import Records, open_records, require_vocabulary
from bertline.model.training.backends.use import use_backend
from bertline.model.training.checkpoint import Checkpoint, read_checkpoint, select
from bertline.progress import Progress
from bertline.settings import require_at_least, require_backend, require_length, require_precision


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate; the records say at which length."""

    eval_batch_size: int = 32  # examples at a time; a short last batch is filled up with weight 0
    max_examples: int = 0  # the first so many records; 0: all
    precision: str = "float32"  # or mixed_bfloat16
    jit_compile: bool = True  # by XLA, as in pretraining
    backend: str = ""  # tensorflow or jax; none: the variable KERAS_BACKEND's, or tensorflow

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "eval_batch_size")
        require_at_least(self, 0, "max_examples")
        require_precision(self.precision)
        require_backend(self.backend)


def run(checkpoint: Path, records: Path, out: Path, config: EvaluateConfig) -> dict[str, int | float]:
    """Score every record once; writes scores.json and eval_results.txt into `out` and returns the scores."""
    use_backend(config.backend)
    from bertline.model.heads import pretraining_shapes

    model = read_checkpoint(checkpoint)
    select(model.weights, pretraining_shapes(model.bert_config), checkpoint)
    examples = open_records(records, vocab_size=model.bert_config.vocab_size)
    require_vocabulary(records, model.vocabulary)
    scores = model_scores(model, examples, config)
    (out / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "eval_results.txt").write_text(eval_results(scores), encoding="utf-8")
    return scores


def model_scores(model: Checkpoint, examples: Records, config: EvaluateConfig) -> Scores:
    """The scores of a model with both heads, each record once; ValueError for records longer than its positions."""
    require_length(examples.max_seq_length, model.bert_config.max_position_embeddings)
    return scores_of(_totals(model, examples, config), model.state["step"])


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
    from bertline.model.training.backends.choice import compiled_forward

    count = min(len(examples), config.max_examples or len(examples))
    measure = measure_of(model.bert_config, config.precision)
    forward = compiled_forward(measure, model.weights, jit_compile=config.jit_compile)
    totals: dict[str, float] = {}
    with Progress("evaluate", count, "examples") as progress:
        for batch in batches(examples, count, config.eval_batch_size):
            add_sums(totals, forward(batch))
            progress.advance(int(batch["example_weights"].sum()))
    return totals


def _as_original(value: float) -> str:
    return str(value) if isinstance(value, int) else str(np.float32(value))
