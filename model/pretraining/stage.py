"""The updates of one stage of pretraining, with all that happens between them: log, scores, snapshots."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.heldout import HeldoutEvaluation
from bertline.model.pretraining.stage_snapshots import save_failed_step, snapshot_writer
from bertline.model.pretraining.start import schedule_of
from bertline.model.records.batches import batch_indices, training_batch
from bertline.model.records.reader import Records
from bertline.model.training.backends.hosts import ALONE, Hosts
from bertline.model.training.checkpoint import Checkpoint
from bertline.model.training.curve import TrainingLog
from bertline.model.training.flops import StepWork, measured_peak, pretraining_work
from bertline.model.training.memory import give_back_freed_memory
from bertline.model.training.rates import Rates, with_prefix
from bertline.model.training.snapshots import Snapshots
from bertline.preemption import PreemptedError
from bertline.progress import say

if TYPE_CHECKING:
    from bertline.model.bert import Weights
    from bertline.model.dropout import Dropout
    from bertline.model.training.backends.choice import Batch, Trainer
    from bertline.model.training.loop import DivergedError
    from bertline.model.training.update import Values


@dataclass(frozen=True)
class Stage:
    """What decides every weight of a stage."""

    config: PretrainConfig
    examples: Records
    heldout: Records | None
    first_step: int  # updates done before this stage
    first_weights: str  # digest of the weights that it starts with
    inputs: Mapping[str, Any] = field(default_factory=dict)  # digests of what is read, where they are known
    hosts: Hosts = ALONE  # that share each batch

    def batch_at(self, step: int) -> dict[str, np.ndarray]:
        """This host's rows of the batch that follows `step` updates."""
        return self._rows(step, self.hosts)

    def whole_batch_at(self, step: int) -> dict[str, np.ndarray]:
        """The rows of all hosts."""
        return self._rows(step, ALONE)

    def _rows(self, step: int, hosts: Hosts) -> dict[str, np.ndarray]:
        config, number = self.config, step - self.first_step
        return training_batch(self.examples, config.train_batch_size, config.seed, number, hosts.number, hosts.count)

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
            **self.inputs,
            "first_step": self.first_step,
            "first_weights": self.first_weights,
            "examples": len(self.examples),
            "heldout_examples": len(self.heldout or ()),
            "length_bins": dict(zip(map(str, self.examples.bin_widths), self.examples.bin_sizes)),
        }


Writer = Callable[[Checkpoint, TrainingLog, Mapping[str, Any]], Callable[[Path], None]]


class Training:
    """The updates of a stage that are left after what was `reached`."""

    def __init__(
        self,
        stage: Stage,
        reached: Checkpoint,
        log: TrainingLog,
        work: Path,
        log_dir: Path | None,
        *,
        snapshots: Snapshots | None = None,
        writer: Writer = snapshot_writer,
    ) -> None:
        """Put copies of the weights and slots of `reached` on the devices; the caller may forget its own.

        `log` gets the updates' rows, `log_dir` events for TensorBoard, `work` snapshots, but for one at the end.
        `snapshots` and `writer` put snapshots elsewhere, and in another form.
        """
        from bertline.model.training.tensorboard import ScalarEvents

        config = stage.config
        self._trainer, self._rates = _trainer(reached, config), _rates(stage, reached)
        self._stage, self._config, self._log, self._work = stage, config, log, work
        self._reached = dataclasses.replace(reached, weights={}, slots=None)
        self._preemption, self._writer = stage.hosts.preemption(), writer
        self._snapshots = snapshots or Snapshots(work, config.keep_checkpoints, config.keep_checkpoints_every_steps)
        self._events = None if log_dir is None or not stage.hosts.writes else ScalarEvents(log_dir)
        self._evaluation: HeldoutEvaluation | None = None
        if stage.heldout is not None:
            of_stage = stage.heldout, config, self._reached, stage.first_step
            self._evaluation = HeldoutEvaluation(*of_stage, self._trainer, log, work, self._events, stage.hosts)

    def run(self) -> Checkpoint:
        """Do the updates; returns the checkpoint at the end.

        Raises PreemptedError when SIGTERM came, after a snapshot, OSError when one could not be written, and
        ValueError at a loss that is no number: what led to it is kept in the work folder.
        """
        from bertline.model.training.loop import DivergedError, train

        give_back_freed_memory()
        start = self._reached.state["step"]
        with self._preemption, self._snapshots if self._stage.hosts.writes else contextlib.nullcontext():
            if not self.evaluate(start):  # which SIGTERM had the run before give up, and now this one
                self._end(start)
            try:
                train(
                    self._trainer,
                    self._stage.batch_at,
                    self.after_update,
                    start_step=start,
                    stop_step=self._config.last_step,
                    label=f"pretrain {self._config.max_seq_length}",
                    steps_per_call=self._config.steps_per_call,
                    rests_at=self.rests_at,
                    at_rest=self.at_rest,
                    rates=self._rates,
                )
            except DivergedError as error:
                raise ValueError(f"{error}{self._failed_step_kept(error)}") from error
        return self.checkpoint_at(self._config.last_step)

    def after_update(self, step: int, metrics: dict[str, float]) -> None:
        """Log the metrics of an update."""
        row = self._log.add(step, metrics, last=step == self._config.last_step)
        if row is not None and self._events is not None:
            self._events.add(row | self._rates.row())

    def rests_at(self, step: int) -> bool:
        """Whether the weights of the step are needed; OSError where the last snapshot could not be written."""
        self._snapshots.check()
        self._preemption.look()
        return self._saves_at(step) or (self._evaluation is not None and self._evaluation.is_due(step))

    def at_rest(self, step: int) -> None:
        """Score the weights and save a snapshot, where that is due."""
        given_up = not self.evaluate(step)
        if not (given_up or self._saves_at(step)):
            return
        if self._stage.hosts.writes:
            self._snapshots.wait()  # before there is another copy of weights and slots
            write = self._writer(self.checkpoint_at(step), self._log, self._stage.identity())
            self._snapshots.save(step, write)
        if self._preemption.requested:
            self._end(step)

    def evaluate(self, step: int) -> bool:
        """Score the weights if that is due and not done; False where SIGTERM came, for a resumed run to make up for."""
        return self._evaluation is None or self._evaluation.after(step, stopping=self._preemption.look)

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The model as it is now, after `step` updates."""
        state = {"step": step, "schedule": schedule_of(self._config)}
        weights, slots = self._trainer.weights(), self._trainer.slots()
        return dataclasses.replace(self._reached, weights=weights, slots=slots, state=state)

    def _end(self, step: int) -> NoReturn:
        self._snapshots.wait()
        self._stage.hosts.meet("all of it saved")
        raise PreemptedError(f"ended at step {step} by SIGTERM, all of it saved; the same command goes on from there")

    def _failed_step_kept(self, error: "DivergedError") -> str:
        """Keep the step that diverged; returns where it lies, in words."""
        if not self._stage.hosts.writes:
            return ""
        step = error.step
        batch, records = self._stage.whole_batch_at(step), self._stage.records_at(step)
        folder = save_failed_step(self._work, step, error.metrics, batch, records)
        return f"; the batch and the figures of the step are in {folder}"

    def _saves_at(self, step: int) -> bool:
        is_due = self._preemption.requested or self._config.due(step, self._config.save_checkpoints_steps)
        return is_due and step < self._config.last_step


def _trainer(reached: Checkpoint, config: PretrainConfig) -> "Trainer":
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.training.loop import new_trainer
    from bertline.model.training.update import Objective, Update

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
