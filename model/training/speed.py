"""How fast a training goes, and how fast the device could: floating-point operations by the usual counting.

Counted are matrix multiplications alone, 2 * m * n * k each; the backward pass is twice the forward one. The output
layer counts at the predictions, padding counts like text, and layers that are computed again count once: "model
FLOPs" as in PaLM (Chowdhery et al. 2022, appendix B).
"""

import functools
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from bertline.model.config import BertConfig
from bertline.model.training.checkpoint import Arrays
from bertline.progress import say

WINDOW = 50  # calls of one or more steps that a rate is a mean of
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
PASSES = 3  # forward, and the gradients of weights and of inputs
SIZES = (1024, 2048, 4096, 8192)  # of the square matrices by which the peak is measured
LONG_ENOUGH_SECONDS = 0.02  # of one multiplication: a larger one would be no faster
REPETITIONS = 2
QUEUED = 4  # multiplications on a device that is fast enough for the way to it to count


@dataclass(frozen=True)
class StepWork:
    """What one step of training does."""

    sequences: int
    tokens: int  # padding included
    flops: int


def pretraining_work(config: BertConfig, batch: int, length: int, predictions: int) -> StepWork:
    """The work of a step on `batch` sequences of `length` tokens, each with room for so many `predictions`."""
    return StepWork(batch, batch * length, PASSES * forward_flops(config, batch, length, predictions))


def classification_work(config: BertConfig, batch: int, length: int, labels: int) -> StepWork:
    """The work of a step on `batch` sequences of `length` tokens, each with one of so many `labels`."""
    return StepWork(batch, batch * length, PASSES * forward_flops(config, batch, length, 0, classes=labels))


def forward_flops(config: BertConfig, batch: int, length: int, predictions: int, classes: int = 2) -> int:
    """Operations of the encoder, the pooler, and heads that choose a word and a class: the next sentence's are 2."""
    hidden, feed_forward, tokens = config.hidden_size, config.intermediate_size, batch * length
    projections = 4 * tokens * hidden * hidden  # query, key, value and output
    attention = 2 * tokens * length * hidden  # scores, and the means of values
    layer = projections + attention + 2 * tokens * hidden * feed_forward
    masked_lm = batch * predictions * hidden * (hidden + config.vocab_size)
    of_class = batch * hidden * (hidden + classes)  # with the pooler
    return 2 * (config.num_hidden_layers * layer + masked_lm + of_class)


@functools.cache
def measure_peak(precision: str) -> float:
    """Operations a second of square matrix multiplications in that precision on the backend's device, measured.

    Takes about half a second; on a device whose other users take their share it is less than the device's best.
    """
    peak = 0.0
    for size in SIZES:
        seconds = _time_product(size, precision)
        peak = max(peak, 2 * size**3 / seconds)
        if seconds > LONG_ENOUGH_SECONDS:
            break
    return peak


def _time_product(size: int, precision: str) -> float:
    from keras import ops

    from bertline.model.training.backends.choice import compile_forward

    block = np.random.default_rng(0).standard_normal((SIZES[0], SIZES[0]), np.float32)
    matrix = ops.cast(ops.tile(block, (size // SIZES[0],) * 2), precision.removeprefix("mixed_"))
    # Not by XLA, which on a processor has no use for its bfloat16 units; JAX compiles by it in any case.
    product = compile_forward(
        lambda weights, _: ops.matmul(weights["a"], weights["a"]), {"a": matrix}, jit_compile=False
    )

    def seconds(count: int) -> float:
        started = time.perf_counter()
        results = [product({}) for _ in range(count)]
        float(ops.cast(results[-1][0, 0], "float32"))  # waits for the device
        return (time.perf_counter() - started) / count

    seconds(1)  # compiles
    once = min(seconds(1) for _ in range(REPETITIONS))
    return once if once > LONG_ENOUGH_SECONDS else min(seconds(QUEUED) for _ in range(REPETITIONS))


class Rates:
    """Sequences, tokens and operations a second over the last steps; without evaluations and snapshots."""

    def __init__(self, work_of: Callable[[Arrays], StepWork], peak_flops: float) -> None:
        """`work_of` says what a step on a batch is; `peak_flops` what the devices together do at most, per second."""
        self._work_of, self._peak = work_of, peak_flops
        self._calls: deque[tuple[float, int, StepWork]] = deque(maxlen=WINDOW)

    def add(self, seconds: float, batch: Arrays, steps: int = 1) -> None:
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
        flops = f"{format_with_prefix(row['rate/model_flops_per_second'])} ({row['rate/share_of_peak']:.0%} of peak)"
        sequences, tokens = row["rate/sequences_per_second"], row["rate/tokens_per_second"]
        steps = sum(steps for _, steps, _ in self._calls) / max(sum(taken for taken, _, _ in self._calls), 1e-9)
        shown = {"steps/s": f"{steps:.3g}", "sequences/s": f"{sequences:,.1f}", "tokens/s": f"{tokens:,.0f}"}
        return {**shown, "FLOP/s": flops}


def new_rates(work_of: Callable[[Arrays], StepWork], devices: int, precision: str) -> Rates:
    """The meter of a training's speed, against the peak of its devices, which is measured and said."""
    peak = measure_peak(precision)
    say(f"peak: {format_with_prefix(peak)} FLOP/s, measured of matrix multiplications in {precision} on this device")
    return Rates(work_of, devices * peak)


class Stopwatch:
    """Times calls from one report to the next, but for those in which something was compiled."""

    def __init__(self, rates: Rates) -> None:
        """`rates` gets the times."""
        self._rates, self._compiled, self._compiling = rates, set[Hashable](), False
        self.restart()

    def restart(self) -> None:
        """Leave out what has passed since the last report."""
        self._since = time.perf_counter()

    def note_dispatch(self, shapes: Hashable) -> None:
        """Note that a call begins; one of new shapes is compiled first."""
        self._compiling |= shapes not in self._compiled
        self._compiled.add(shapes)

    def note_report(self, batch: Arrays, steps: int) -> None:
        """Note that a call of so many steps on such batches has ended."""
        before = self._since
        self.restart()
        if not self._compiling:
            self._rates.add(self._since - before, batch, steps)
        self._compiling = False


def format_with_prefix(value: float) -> str:
    """Three digits and a prefix: 31.2G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{PREFIXES[power]}"
