"""The one training loop: batches read ahead, calls of several updates, and a stop when the loss is no number."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bertline.model.bert import Tensor
from bertline.model.training.backends.choice import Batch, Trainer, trainer_of
from bertline.model.training.optimizer import ADAM_M, ADAM_V
from bertline.model.training.rates import Rates, Stopwatch
from bertline.model.training.update import Update
from bertline.progress import Progress

Metrics = dict[str, float]


class DivergedError(ValueError):
    """A loss or gradient norm that is no number; the weights are worthless from `step` on."""

    def __init__(self, step: int, metrics: Metrics) -> None:
        """`step` counts updates from 0."""
        super().__init__(
            f"step {step + 1}: loss is {metrics['loss']}, gradient norm {metrics['grad_norm']}, learning rate "
            f"{metrics['learning_rate']:.3g}; lower learning_rate or raise num_warmup_steps"
        )
        self.step, self.metrics = step, metrics


def new_trainer(
    weights: Mapping[str, np.ndarray],
    slots: Mapping[str, np.ndarray] | None,
    update: Update,
    *,
    jit_compile: bool,
    devices: int = 1,
) -> Trainer:
    """A trainer of `weights` (by name), with the slots of an earlier run or, without, from zero."""
    if slots is None:
        slots = {name + slot: np.zeros_like(w) for name, w in weights.items() for slot in (ADAM_M, ADAM_V)}
    # A fixed order: the norm's sum depends on it, and files give the weights back in an order of their own.
    ordered = {name: weights[name] for name in sorted(weights)}
    return trainer_of(ordered, slots, update, jit_compile=jit_compile, devices=devices)


def train(
    trainer: Trainer,
    batch_at: Callable[[int], Batch],
    after_update: Callable[[int, Metrics], None],
    *,
    start_step: int,
    stop_step: int,
    label: str,
    steps_per_call: int = 1,
    rests_at: Callable[[int], bool] = lambda step: False,
    at_rest: Callable[[int], None] = lambda step: None,
    rates: Rates | None = None,
) -> None:
    """Run the updates from `start_step` up to `stop_step`, `steps_per_call` of them in one compiled call.

    `batch_at(step)` gives the batch of a step and runs in a thread, a call ahead. `after_update` gets the number of
    updates done and the metrics of the last of them, when the next call may be under way: the weights may be newer.
    What needs the weights of one step is `at_rest`'s: called with the number of updates done, where `rests_at` says
    so, once all metrics so far are known to be numbers. Both are asked where calls end: at the multiples of
    `steps_per_call`, and at the end. `rates` counts no time that rests take.
    Raises DivergedError at a loss that is no number.
    """
    watch = Stopwatch(rates)
    # A device computes a call while the host prepares the next: what a call found is looked at one call later.
    computing: deque[tuple[_Call, Mapping[str, Tensor]]] = deque()
    with Progress(label, stop_step, "steps", done=start_step) as progress, ThreadPoolExecutor(1) as reader:

        def report(waiting: int) -> None:
            """Look at what the calls found, but for the last `waiting` ones."""
            while len(computing) > waiting:
                call, metrics = computing.popleft()
                rows = call.rows(metrics)
                watch.reported(call.batches, len(rows))
                for step, row in zip(call.steps, rows, strict=True):
                    after_update(step + 1, row)
                facts = {"loss": rows[-1]["loss"], "learning_rate": rows[-1]["learning_rate"]}
                progress.advance(len(rows), **facts, **(rates.facts() if rates is not None else {}))

        for span, calls in _calls(reader, batch_at, _spans(start_step, stop_step, steps_per_call)):
            for call in calls:
                watch.dispatched(call.shapes())
                computing.append((call, call.dispatched(trainer)))
                report(waiting=1)
            if rests_at(span.stop):
                report(waiting=0)
                at_rest(span.stop)
                watch.restart()
        report(waiting=0)


@dataclass(frozen=True)
class _Call:
    """Updates that are computed together."""

    steps: range
    batches: Mapping[str, np.ndarray]  # [steps, batch, ...]

    def dispatched(self, trainer: Trainer) -> Mapping[str, Tensor]:
        """The metrics of the updates, which may be under way yet: scalars of one, [steps] of several."""
        if len(self.steps) == 1:
            return trainer.update(self.steps.start, self.batch(0))
        return trainer.updates(self.steps.start, self.batches)

    def batch(self, place: int) -> Batch:
        return {name: values[place] for name, values in self.batches.items()}

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(values.shape for values in self.batches.values())

    def rows(self, metrics: Mapping[str, Tensor]) -> list[Metrics]:
        """The metrics of one update after the other, once they are there; DivergedError at one that is no number."""
        columns = {name: np.reshape(np.asarray(values), -1) for name, values in metrics.items()}
        rows = [{name: float(values[place]) for name, values in columns.items()} for place in range(len(self.steps))]
        for place, row in enumerate(rows):
            if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
                raise DivergedError(self.steps[place], row)
        return rows


def _spans(start: int, stop: int, length: int) -> Iterator[range]:
    """The steps of each span of calls: a grid of absolute steps, so that a resumed run has the same calls.

    >>> list(_spans(2, 11, 4))
    [range(2, 4), range(4, 8), range(8, 11)]
    """
    while start < stop:
        end = min(stop, start - start % length + length)
        yield range(start, end)
        start = end


def _calls(
    reader: ThreadPoolExecutor, batch_at: Callable[[int], Batch], spans: Iterator[range]
) -> Iterator[tuple[range, list[_Call]]]:
    """The spans and the calls of their updates; batches are read a span ahead."""

    def read(steps: range) -> tuple[range, list[_Call]]:
        return steps, _stacked(steps, [batch_at(step) for step in steps])

    coming: Future[tuple[range, list[_Call]]] | None = None
    for steps in spans:
        ready, coming = coming, reader.submit(read, steps)
        if ready is not None:
            yield ready.result()
    if coming is not None:
        yield coming.result()


def _stacked(steps: range, batches: list[Batch]) -> list[_Call]:
    """One call for the batches, or more where batches of different lengths follow each other."""

    def shapes(place: int) -> list[tuple[int, ...]]:
        return [values.shape for values in batches[place].values()]

    calls = []
    for _, alike in itertools.groupby(range(len(steps)), key=shapes):
        places = list(alike)
        stacked = {name: np.stack([batches[place][name] for place in places]) for name in batches[places[0]]}
        calls.append(_Call(steps[places[0] : places[-1] + 1], stacked))
    return calls
