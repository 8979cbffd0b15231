"""Compiled calls of one or more updates: their batches are read a call ahead, their metrics looked at afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bertline.model.bert import Tensor
    from bertline.model.training.backends.choice import Trainer
    from bertline.model.training.checkpoint import Arrays

Metrics = dict[str, float]


@dataclass(frozen=True)
class Call:
    """Updates that are computed together."""

    steps: range
    batches: Arrays  # [steps, batch, ...]

    def dispatch(self, trainer: Trainer) -> Mapping[str, Tensor]:
        """Start the updates; their metrics, scalars of one update and [steps] of several, may not be computed yet."""
        if len(self.steps) == 1:
            return trainer.update(self.steps.start, {name: values[0] for name, values in self.batches.items()})
        return trainer.updates(self.steps.start, self.batches)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What a compiled call is compiled for."""
        return tuple(values.shape for values in self.batches.values())

    def rows(self, metrics: Mapping[str, Tensor]) -> list[Metrics]:
        """The metrics of one update after the other; waits until they are computed."""
        columns = {name: np.reshape(np.asarray(values), -1) for name, values in metrics.items()}
        return [{name: float(values[place]) for name, values in columns.items()} for place in range(len(self.steps))]


def read_calls(
    reader: ThreadPoolExecutor, batch_at: Callable[[int], Arrays], start: int, stop: int, steps_per_call: int
) -> Iterator[tuple[int, list[Call]]]:
    """The calls of the steps from `start` up to `stop`, a span of `steps_per_call` at a time, each with its last step.

    `reader` reads the batches of the next span meanwhile. A span is one call, but where batches of other lengths
    follow each other.
    """

    def read(steps: range) -> tuple[int, list[Call]]:
        return steps.stop, _stack(steps, [batch_at(step) for step in steps])

    coming: Future[tuple[int, list[Call]]] | None = None
    for steps in _spans(start, stop, steps_per_call):
        ready, coming = coming, reader.submit(read, steps)
        if ready is not None:
            yield ready.result()
    if coming is not None:
        yield coming.result()


def _spans(start: int, stop: int, length: int) -> Iterator[range]:
    """The steps of each span of calls: a grid of absolute steps, so that a resumed run has the same calls.

    >>> list(_spans(2, 11, 4))
    [range(2, 4), range(4, 8), range(8, 11)]
    """
    while start < stop:
        end = min(stop, start - start % length + length)
        yield range(start, end)
        start = end


def _stack(steps: range, batches: list[Arrays]) -> list[Call]:
    """One call for the batches, or more where batches of different lengths follow each other."""

    def shapes(place: int) -> list[tuple[int, ...]]:
        return [values.shape for values in batches[place].values()]

    calls = []
    for _, alike in itertools.groupby(range(len(steps)), key=shapes):
        places = list(alike)
        stacked = {name: np.stack([batches[place][name] for place in places]) for name in batches[places[0]]}
        calls.append(Call(steps[places[0] : places[-1] + 1], stacked))
    return calls
