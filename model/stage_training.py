"""The updates of one stage of pretraining, with all that happens between them: log, scores, snapshots."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.batches import batch_indices, training_batch
from bertline.model.checkpoints.snapshots import Snapshots
from bertline.model.checkpoints.state import Checkpoint
from bertline.model.flops import StepWork, measured_peak, pretraining_work
from bertline.model.heldout import HeldoutEvaluation
from bertline.model.preemption import PreemptedError, Preemption
from bertline.model.pretrain_config import PretrainConfig
from bertline.model.progress import say
from bertline.model.rates import Rates, with_prefix
from bertline.model.records import Records
from bertline.model.stage_snapshots import save_failed_step, snapshot_writer
from bertline.model.stage_start import schedule_of
from bertline.model.training_log import TrainingLog

if TYPE_CHECKING:
    from bertline.model.backends.choice import Batch, Trainer
    from bertline.model.bert import Weights
    from bertline.model.dropout import Dropout
    from bertline.model.update import Values


@dataclass(frozen=True)
class Stage:
    """What decides every weight of a stage."""

    config: PretrainConfig
    examples: Records
    heldout: Records | None
    first_step: int  # updates done before this stage
    first_weights: str  # digest of the weights that it starts with

    def batch_at(self, step: int) -> dict[str, np.ndarray]:
        """The batch that follows `step` updates."""
        config = self.config
        return training_batch(self.examples, config.train_batch_size, config.seed, step - self.first_step)

    def records_at(self, step: int) -> np.ndarray:
        """The numbers of the records of that batch."""
        config = self.config
        return batch_indices(self.examples.bin_sizes, config.train_batch_size, config.seed, step - self.first_step)

    def identity(self) -> dict[str, Any]:
        """What decides every weight on the way, as JSON holds it."""
        fields = dataclasses.fields(self.config)
        settings = {f.name: getattr(self.config, f.name) for f in fields if not f.metadata.get("volatile")}
        return {
            **settings,
            "first_step": self.first_step,
            "first_weights": self.first_weights,
            "examples": len(self.examples),
            "heldout_examples": len(self.heldout or ()),
            "length_bins": dict(zip(map(str, self.examples.bin_widths), self.examples.bin_sizes)),
        }


Writer = Callable[[Checkpoint, TrainingLog, Mapping[str, Any]], Callable[[Path], None]]


def train_stage(
    stage: Stage,
    reached: Checkpoint,
    log: TrainingLog,
    work: Path,
    log_dir: Path | None,
    *,
    snapshots: Snapshots | None = None,
    writer: Writer = snapshot_writer,
) -> Checkpoint:
    """Do the updates that are left after `reached`; returns the checkpoint at the end.

    `log` gets their rows, `log_dir` events for TensorBoard, `work` snapshots, but for one at the end. Raises
    PreemptedError when SIGTERM came, after a snapshot, OSError when one could not be written, and ValueError at a
    loss that is no number: what led to it is kept in `work`. `snapshots` and `writer` put snapshots elsewhere, and
    in another form.
    """
    from bertline.model.train import DivergedError, train

    config = stage.config
    keep = config.keep_checkpoints, config.keep_checkpoints_every_steps
    with Preemption() as preemption, snapshots or Snapshots(work, *keep) as saved:
        training = _Training(stage, reached, log, work, log_dir, preemption, saved, writer)
        training.evaluate(reached.state["step"])  # where SIGTERM came before it was done
        try:
            train(
                training.trainer,
                stage.batch_at,
                training.after_update,
                start_step=reached.state["step"],
                stop_step=config.last_step,
                label=f"pretrain {config.max_seq_length}",
                steps_per_call=config.steps_per_call,
                rests_at=training.rests_at,
                at_rest=training.at_rest,
                rates=training.rates,
            )
        except DivergedError as error:
            folder = save_failed_step(work, error, stage.records_at(error.step))
            raise ValueError(f"{error}; the batch and the figures of the step are in {folder}") from error
    return training.checkpoint_at(config.last_step)


class _Training:
    """What the loop calls between updates."""

    def __init__(
        self,
        stage: Stage,
        reached: Checkpoint,
        log: TrainingLog,
        work: Path,
        log_dir: Path | None,
        preemption: Preemption,
        snapshots: Snapshots,
        writer: Writer,
    ) -> None:
        from bertline.model.tensorboard import ScalarEvents

        self.trainer, self.rates = _trainer(reached, stage.config), _rates(stage, reached)
        self._stage, self._config, self._reached, self._log = stage, stage.config, reached, log
        self._preemption, self._snapshots, self._writer = preemption, snapshots, writer
        self._events = None if log_dir is None else ScalarEvents(log_dir)
        self._evaluation: HeldoutEvaluation | None = None
        if stage.heldout is not None:
            of_stage = stage.heldout, stage.config, reached, stage.first_step
            self._evaluation = HeldoutEvaluation(*of_stage, self.trainer, log, work, self._events)

    def after_update(self, step: int, metrics: dict[str, float]) -> None:
        """Log the metrics of an update."""
        row = self._log.add(step, metrics, last=step == self._config.last_step)
        if row is not None and self._events is not None:
            self._events.add(row | self.rates.row())

    def rests_at(self, step: int) -> bool:
        """Whether the weights of the step are needed; OSError where the last snapshot could not be written."""
        self._snapshots.check()
        return self._saves_at(step) or (self._evaluation is not None and self._evaluation.is_due(step))

    def at_rest(self, step: int) -> None:
        """Score the weights and save a snapshot, where that is due."""
        self.evaluate(step)
        if not self._saves_at(step):
            return
        self._snapshots.wait()  # before there is another copy of weights and slots
        write = self._writer(self.checkpoint_at(step), self._log, self._stage.identity())
        self._snapshots.save(step, write)
        if self._preemption.requested:
            self._snapshots.wait()
            raise PreemptedError(
                f"ended at step {step} by SIGTERM, all of it saved; the same command goes on from there"
            )

    def evaluate(self, step: int) -> None:
        """Score the weights if that is due and not done."""
        if self._evaluation is not None:  # a machine that is taken away does not wait: the resumed run makes up for it
            self._evaluation.after(step, stopping=lambda: self._preemption.requested and step < self._config.last_step)

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The model as it is now, after `step` updates."""
        state = {"step": step, "schedule": schedule_of(self._config)}
        weights, slots = self.trainer.weights(), self.trainer.slots()
        return dataclasses.replace(self._reached, weights=weights, slots=slots, state=state)

    def _saves_at(self, step: int) -> bool:
        is_due = self._preemption.requested or self._config.due(step, self._config.save_checkpoints_steps)
        return is_due and step < self._config.last_step


def _trainer(reached: Checkpoint, config: PretrainConfig) -> "Trainer":
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.train import new_trainer
    from bertline.model.update import Objective, Update

    shape, recompute = reached.bert_config, config.recompute_layers

    def losses(weights: "Weights", part: "Batch", whole: "Values", dropout: "Dropout") -> "Values":
        return pretraining_losses(weights, shape, part, whole, dropout, recompute)

    update = Update(
        Objective(pretraining_whole, losses),
        config.schedule,
        config.rule,
        seed=config.seed,
        precision=config.precision,
        parts=config.gradient_accumulation_steps,
    )
    options: dict[str, Any] = {"jit_compile": config.jit_compile, "devices": config.devices}
    return new_trainer(reached.weights, reached.slots, update, **options)


def _rates(stage: Stage, reached: Checkpoint) -> Rates:
    """The meter of the stage's speed, against the measured peak of its devices."""
    config = stage.config
    peak = measured_peak(config.precision)
    say(f"peak: {with_prefix(peak)} FLOP/s, measured of matrix multiplications in {config.precision} on this device")

    def work_of(batch: "Batch") -> StepWork:
        length, predictions = batch["input_ids"].shape[-1], batch["masked_lm_positions"].shape[-1]
        return pretraining_work(reached.bert_config, config.train_batch_size, length, predictions)

    return Rates(work_of, config.devices * peak)
