"""A training's weights scored on held-out records, every so many steps and at the end of the stage."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.scoring import Scores, add_sums, batches, measure_of, scores_of
from bertline.model.records.batches import host_share
from bertline.model.records.reader import Records, open_records
from bertline.model.training.backends.hosts import Hosts
from bertline.model.training.best import best_of, forget_others, save_best
from bertline.model.training.checkpoint import Checkpoint
from bertline.model.training.curve import TrainingLog, evaluations
from bertline.progress import say

if TYPE_CHECKING:
    from bertline.model.training.backends.choice import Trainer
    from bertline.model.training.tensorboard import ScalarEvents

LOGGED = ("masked_lm_loss", "masked_lm_accuracy", "perplexity", "next_sentence_loss", "next_sentence_accuracy")
# Devlin in google-research/bert #90; Devlin et al. 2018, table 6 and 5.1.
EXPECTED = (
    "after a million steps of 256 sequences BERT-Base has a masked-LM loss of about 1.4 nats (perplexity 4.0; the "
    "paper's models 5.84 with 3 layers to 3.23 with 24) and 97-98 % of next sentences right"
)


def open_heldout(folder: Path | None, config: PretrainConfig, vocab_size: int) -> Records | None:
    """The held-out records of a stage, if it has any; refused like records of training, and settings without them."""
    if folder is not None:
        return open_records(folder, config.max_seq_length, vocab_size)
    if config.eval_every_steps:
        raise ValueError(
            f"eval_every_steps is {config.eval_every_steps}, but no held-out records are given; "
            "give some (heldout), or leave it away"
        )
    return None


class HeldoutEvaluation:
    """Scores weights on the way: rows in the log, curves in TensorBoard, a line for the user, the best weights kept."""

    def __init__(
        self,
        examples: Records,
        config: PretrainConfig,
        started: Checkpoint,
        first_step: int,
        trainer: "Trainer",
        log: TrainingLog,
        work: Path,
        events: "ScalarEvents | None",
        hosts: Hosts,
    ) -> None:
        """`started` is what `trainer` began with; the stage itself began at `first_step`."""
        self._examples, self._config, self._log, self._work = examples, config, log, work
        self._started, self._first_step, self._trainer, self._events = started, first_step, trainer, events
        self._hosts = hosts
        self._count = min(len(examples), config.max_eval_examples or len(examples))
        self._forward = trainer.forward(measure_of(started.bert_config, config.precision))
        say(f"held-out records: {self._count:,} of {len(examples):,} examples; {EXPECTED}")

    def after(self, step: int, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Score the weights if the step is one to score and not scored yet; False where `stopping` had it given up."""
        if not self.is_due(step) or any(row["step"] == step for row in self._of_stage()):
            return True
        started = time.monotonic()
        scores = self._scores(step, stopping)
        if scores is None:
            return False
        row = self._log.add_evaluation(step, {name: scores[name] for name in LOGGED})
        if self._events is not None:
            self._events.add({"step": step} | {f"heldout/{name}": scores[name] for name in LOGGED})
        is_best = best_of(self._log.rows, self._first_step) is row
        if is_best and step < self._config.last_step and self._hosts.writes:  # the last weights are kept anyway
            self._save(step)
        say(f"{_line(scores)}{', the best so far' if is_best else ''} ({time.monotonic() - started:.1f} s)")
        return True

    def is_due(self, step: int) -> bool:
        """Whether the weights of the step, where a call ends, are to be scored."""
        config = self._config
        if step <= self._first_step:
            return False
        return step == config.last_step or (config.eval_every_steps > 0 and config.due(step, config.eval_every_steps))

    def _of_stage(self) -> list[dict[str, float]]:
        return [row for row in evaluations(self._log.rows) if row["step"] > self._first_step]

    def _scores(self, step: int, stopping: Callable[[], bool]) -> Scores | None:
        devices = self._config.devices
        size = -(-min(self._config.eval_batch_size, self._count) // devices) * devices
        mine = host_share(size, self._hosts.number, self._hosts.count)
        totals: dict[str, float] = {}
        for batch in batches(self._examples, self._count, size):
            if stopping():
                return None
            add_sums(totals, self._forward({name: values[mine] for name, values in batch.items()}))
        return scores_of(totals, step)

    def _save(self, step: int) -> None:
        weights = self._trainer.weights()
        save_best(self._work, dataclasses.replace(self._started, weights=weights, slots=None, state={"step": step}))
        before = self._config.due_before(step, self._config.save_checkpoints_steps)
        # The snapshot before may still be on its way to the disk.
        forget_others(self._work, self._log.rows, self._first_step, coming=(before, step))


def _line(scores: Scores) -> str:
    return (
        f"held-out at step {scores['global_step']:,}: masked-LM loss {scores['masked_lm_loss']:.4f} nats "
        f"(perplexity {scores['perplexity']:,.2f}, {scores['masked_lm_accuracy']:.1%} right), next sentence "
        f"{scores['next_sentence_loss']:.4f} ({scores['next_sentence_accuracy']:.1%} right)"
    )
