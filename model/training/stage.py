"""The one training stage: pretraining, fine-tuning and whatever else moves weights by gradients.

A stage is an objective, its data, a score on held-out data, and the identity of all that decides its weights. It goes
on from its newest snapshot to the same bytes, keeps the best weights, logs, and when a signal comes saves and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from bertline.model.training.backends.choice import ALONE, Call, Hosts, Metrics, new_trainer, read_calls
from bertline.model.training.best import BestWeights, Measure
from bertline.model.training.checkpoint import (
    Arrays,
    Checkpoint,
    ScalarEvents,
    TrainingLog,
    write_checkpoint,
    write_log,
)
from bertline.model.training.diverged import DivergedError, keep_step
from bertline.model.training.snapshots import Snapshots, snapshot_writer
from bertline.model.training.speed import SpeedLog, StepWork, new_stopwatch
from bertline.preemption import PreemptedError
from bertline.progress import Progress, say

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights
    from bertline.model.training.update import Update, Values

Forward = Callable[[Arrays], Any]
Scores = Mapping[str, float]


class Data(Protocol):
    """The examples of a stage."""

    def batch_at(self, step: int, hosts: Hosts) -> Arrays:
        """This host's rows of the batch that follows `step` updates."""

    def examples_at(self, step: int) -> np.ndarray:
        """The numbers of the examples of that batch, on all hosts."""


class Score(Protocol):
    """How good weights are on held-out data."""

    measure: Measure  # by which the best weights are chosen

    def compute(self, weights: Weights, batch: Mapping[str, Tensor]) -> Values | Tensor:
        """What `score` needs of one batch; compiled by the backend."""

    def score(self, forward: Forward, stopping: Callable[[], bool]) -> Scores | None:
        """The scores to log, of the weights with which `forward` calls `compute`; None once `stopping` says so."""

    def describe(self, scores: Scores) -> str:
        """The scores as the user is told of them."""


@dataclass(frozen=True)
class Stage:
    """What is trained, on what, from which step to which, and how it is scored."""

    label: str  # of the progress bar
    update: Update  # objective, schedule, optimizer, seed, precision
    data: Data
    first_step: int  # updates done before this stage
    last_step: int
    work_of: Callable[[Arrays], StepWork]  # what a step on such a batch is, on all devices
    identity: Mapping[str, Any]  # what decides every weight and row of the log on the way, as JSON holds it
    score: Score | None = None
    eval_every_steps: int = 0  # steps between scores; 0: at the end only
    save_checkpoints_steps: int = 1000  # steps between snapshots
    steps_per_call: int = 1
    jit_compile: bool = True
    devices: int = 1
    hosts: Hosts = ALONE
    state: Mapping[str, Any] = field(default_factory=dict)  # of every checkpoint, beside the step
    schedule: Mapping[str, Any] | None = None  # of checkpoints whose training can go on: what a next stage shares

    def is_due(self, step: int, every: int) -> bool:
        """Whether what is done every so many steps is done at `step`, where a call ends."""
        before = (step - 1) // self.steps_per_call * self.steps_per_call
        return step // every > before // every

    def due_before(self, step: int, every: int) -> int:
        """The last step before `step` at which it was due; 0 where it never was."""
        ends_of_calls = range((step - 1) // self.steps_per_call * self.steps_per_call, 0, -self.steps_per_call)
        return next((end for end in ends_of_calls if self.is_due(end, every)), 0)

    def is_scored_at(self, step: int) -> bool:
        """Whether the weights of the step, where a call ends, are to be scored."""
        if self.score is None or step <= self.first_step:
            return False
        at_intervals = self.eval_every_steps > 0 and self.is_due(step, self.eval_every_steps)
        return step == self.last_step or at_intervals


class Training:
    """The updates of a stage that are left after what was reached."""

    def __init__(
        self,
        stage: Stage,
        reached: Checkpoint,
        log: TrainingLog,
        work: Path,
        *,
        log_dir: Path | None = None,
        snapshots: Snapshots | None = None,
        writer: Callable[[Checkpoint, TrainingLog, Mapping[str, Any]], Callable[[Path], None]] = snapshot_writer,
    ) -> None:
        """Put copies of the weights and slots of `reached` on the devices; the caller may delete its own.

        `log` gets the updates' rows, `log_dir` events for TensorBoard and the speed, `work` snapshots and best weights.
        `snapshots` and `writer` put snapshots elsewhere, and in another form.
        """
        options: dict[str, Any] = {"jit_compile": stage.jit_compile, "devices": stage.devices}
        self._trainer = new_trainer(reached.weights, reached.slots, stage.update, **options)
        self._stage, self._log, self._work = stage, log, work
        self._reached = dataclasses.replace(reached, weights={}, slots=None)
        self._snapshots, self._writer = snapshots or Snapshots(work), writer
        self._preemption = stage.hosts.preemption()
        self._events = None if log_dir is None or not stage.hosts.writes else ScalarEvents(log_dir)
        speed_log = SpeedLog(log_dir, reached.state["step"]) if log_dir and stage.hosts.writes else None
        self._watch = new_stopwatch(stage.work_of, stage.devices, stage.update.precision, speed_log)
        # A device computes a call while the host prepares the next: a call's metrics are looked at one call later.
        self._computing: deque[tuple[Call, Mapping[str, Tensor]]] = deque()
        if stage.score is not None:
            self._forward = self._trainer.forward(stage.score.compute)
            self._best = BestWeights(work, stage.score.measure, stage.first_step)

    def run(self) -> Checkpoint:
        """Do the updates; returns the checkpoint at the end.

        Raises PreemptedError when a signal came, after a snapshot, OSError when one could not be written, and
        DivergedError at a loss that is not finite: the batch that led to it is kept in the work folder.
        """
        stage, start = self._stage, self._reached.state["step"]
        _return_freed_memory()
        with self._preemption, self._snapshots if stage.hosts.writes else contextlib.nullcontext():
            if not self._evaluate(start):  # which a signal had the run before give up, and now this one
                self._end(start)
            self._preemption.forget_looks()  # of a resumed training: its snapshot holds all, and a compilation comes
            progress = Progress(stage.label, stage.last_step, "steps", start, measures_rate=False)
            with progress, ThreadPoolExecutor(1) as reader:
                self._watch.restart()
                for step, calls in read_calls(reader, self._batch_at, start, stage.last_step, stage.steps_per_call):
                    for call in calls:
                        self._dispatch(call, progress)
                    self._snapshots.check()
                    self._preemption.look()
                    if not (stage.is_scored_at(step) or self._saves_at(step)):
                        continue
                    self._report(progress, waiting=0)  # only weights whose losses are known to be finite are kept
                    progress.doing("evaluating" if stage.is_scored_at(step) else "saving")
                    was_scored = self._evaluate(step)
                    if self._saves_at(step) or not was_scored:
                        self._save(step)
                        if self._preemption.requested:
                            self._end(step)
                    progress.doing("")
                    self._watch.restart()
                self._report(progress, waiting=0)
        return self._checkpoint_at(stage.last_step)

    def write(self, out: Path, final: Checkpoint) -> dict[str, float]:
        """Write what `run` returned, the curve and the best weights into `out`; returns counts of the scores."""
        if not self._stage.hosts.writes:
            return {}
        write_checkpoint(out, final)
        write_log(out, self._log.to_lines())
        return self._best.write(out, self._log.rows) if self._stage.score is not None else {}

    def _batch_at(self, step: int) -> Arrays:
        return self._stage.data.batch_at(step, self._stage.hosts)

    def _saves_at(self, step: int) -> bool:
        is_due = self._preemption.requested or self._stage.is_due(step, self._stage.save_checkpoints_steps)
        return is_due and step < self._stage.last_step

    def _dispatch(self, call: Call, progress: Progress) -> None:
        """Start a call, and report the one before; one that is compiled first stands alone, as its time says little."""
        if compiles := not self._watch.is_compiled(call.shapes()):
            self._report(progress, waiting=0)
            progress.doing("compiling")
        self._computing.append((call, call.dispatch(self._trainer)))
        self._report(progress, waiting=0 if compiles else 1)

    def _report(self, progress: Progress, waiting: int) -> None:
        """Log and show the metrics of all calls but the last `waiting` ones; DivergedError if they are not finite."""
        while len(self._computing) > waiting:
            call, metrics = self._computing.popleft()
            rows = call.rows(metrics)
            for step, row in zip(call.steps, rows, strict=True):
                if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
                    raise self._diverged(step, row)
            self._watch.note_report(call.shapes(), call.batches, len(rows), is_last=not self._computing)
            for step, row in zip(call.steps, rows, strict=True):
                completed = self._log.add(step + 1, row, last=step + 1 == self._stage.last_step)
                rates = {} if completed is None else self._watch.note_row(step + 1)
                if completed is not None and self._events is not None:
                    self._events.add(completed | rates)
            facts = {"loss": rows[-1]["loss"], **self._watch.rates.facts(), "learning_rate": rows[-1]["learning_rate"]}
            progress.advance(len(rows), **facts)

    def _evaluate(self, step: int) -> bool:
        """Score the weights if that is due and not done; False where a signal came: a resumed run makes up for it."""
        stage = self._stage
        if stage.score is None or not stage.is_scored_at(step):
            return True
        if any(row["step"] == step for row in self._best.evaluations(self._log.rows)):
            return True
        started = time.monotonic()
        scores = stage.score.score(self._forward, self._preemption.look)
        if scores is None:
            return False
        row = self._log.add_evaluation(step, scores)
        if self._events is not None:
            self._events.add({"step": step} | {f"heldout/{name}": value for name, value in scores.items()})
        is_best = self._best.find(self._log.rows) is row
        if is_best and step < stage.last_step and stage.hosts.writes:  # the last weights are kept anyway
            self._save_best(step)
        best = ", the best so far" if is_best else ""
        seconds = time.monotonic() - started
        say(f"held-out at step {step:,}: {stage.score.describe(scores)}{best} ({seconds:.1f} s)")
        return True

    def _save_best(self, step: int) -> None:
        weights, state = self._trainer.weights(), {"step": step, **self._stage.state}
        self._best.save(dataclasses.replace(self._reached, weights=weights, state=state))
        before = self._stage.due_before(step, self._stage.save_checkpoints_steps)
        # The snapshot before may still be on its way to the disk.
        self._best.delete_others(self._log.rows, coming=(before, step))

    def _save(self, step: int) -> None:
        """Start to write a snapshot."""
        if self._stage.hosts.writes:
            self._snapshots.wait()  # before there is another copy of weights and slots
            self._snapshots.save(step, self._writer(self._checkpoint_at(step), self._log, self._stage.identity))

    def _end(self, step: int) -> NoReturn:
        self._snapshots.wait()
        self._stage.hosts.meet("all of it saved")
        cause = self._preemption.cause
        raise PreemptedError(f"ended at step {step} by {cause}, all of it saved; the same command goes on from there")

    def _checkpoint_at(self, step: int) -> Checkpoint:
        """The model as it is now, after `step` updates."""
        schedule = {} if self._stage.schedule is None else {"schedule": self._stage.schedule}
        state = {"step": step, **self._stage.state, **schedule}
        weights, slots = self._trainer.weights(), self._trainer.slots()
        return dataclasses.replace(self._reached, weights=weights, slots=slots, state=state)

    def _diverged(self, step: int, metrics: Metrics) -> DivergedError:
        if not self._stage.hosts.writes:
            return DivergedError(step, metrics)
        data = self._stage.data
        kept = keep_step(self._work, step, metrics, data.batch_at(step, ALONE), data.examples_at(step))
        return DivergedError(step, metrics, kept)


def _return_freed_memory() -> None:
    """Let the C library return freed memory to the system, where it can: glibc keeps freed blocks below 32 MB.

    The making of BERT-Base's first weights and slots leaves 1 GB behind.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
