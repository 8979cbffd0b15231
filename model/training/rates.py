"""How fast a training goes, from the durations of its steps alone."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping

import numpy as np

from bertline.model.training.flops import StepWork

Batch = Mapping[str, np.ndarray]

WINDOW = 50  # calls of one or more steps that a rate is a mean of
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


class Rates:
    """Sequences, tokens and operations a second over the last steps; evaluations and snapshots are not among them."""

    def __init__(self, work_of: Callable[[Batch], StepWork], peak_flops: float) -> None:
        """`work_of` says what a step on a batch is; `peak_flops` what the devices together do at most, per second."""
        self._work_of, self._peak = work_of, peak_flops
        self._calls: deque[tuple[float, int, StepWork]] = deque(maxlen=WINDOW)

    def add(self, seconds: float, batch: Batch, steps: int = 1) -> None:
        """Note how long so many steps on such batches took."""
        self._calls.append((seconds, steps, self._work_of(batch)))

    def row(self) -> dict[str, float]:
        """The rates by TensorBoard's names; none before the first step."""
        if not self._calls:
            return {}
        seconds = max(sum(taken for taken, _, _ in self._calls), 1e-9)
        flops = sum(steps * work.flops for _, steps, work in self._calls) / seconds
        return {
            "rate/sequences_per_second": sum(steps * work.sequences for _, steps, work in self._calls) / seconds,
            "rate/tokens_per_second": sum(steps * work.tokens for _, steps, work in self._calls) / seconds,
            "rate/model_flops_per_second": flops,
            "rate/share_of_peak": flops / self._peak,
        }

    def facts(self) -> dict[str, float | str]:
        """The rates as a progress bar shows them."""
        row = self.row()
        if not row:
            return {}
        flops = f"{with_prefix(row['rate/model_flops_per_second'])} ({row['rate/share_of_peak']:.0%} of peak)"
        sequences, tokens = row["rate/sequences_per_second"], row["rate/tokens_per_second"]
        steps = sum(steps for _, steps, _ in self._calls) / max(sum(taken for taken, _, _ in self._calls), 1e-9)
        shown = {"steps/s": f"{steps:.3g}", "sequences/s": f"{sequences:,.1f}", "tokens/s": f"{tokens:,.0f}"}
        return {**shown, "FLOP/s": flops}


class Stopwatch:
    """Times calls from one report to the next, but for those in which something was compiled."""

    def __init__(self, rates: Rates | None) -> None:
        """`rates` gets the times."""
        self._rates, self._compiled, self._compiling = rates, set[Hashable](), False
        self.restart()

    def restart(self) -> None:
        """Leave out what has passed since the last report."""
        self._since = time.perf_counter()

    def dispatched(self, shapes: Hashable) -> None:
        """Note that a call begins; one of new shapes is compiled first."""
        self._compiling |= shapes not in self._compiled
        self._compiled.add(shapes)

    def reported(self, batch: Batch, steps: int) -> None:
        """Note that a call of so many steps on such batches has ended."""
        before = self._since
        self.restart()
        if self._rates is not None and not self._compiling:
            self._rates.add(self._since - before, batch, steps)
        self._compiling = False


def with_prefix(value: float) -> str:
    """Three digits and a prefix: 31.2G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{PREFIXES[power]}"
