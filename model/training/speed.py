"""How fast a training goes, and how fast the device could: floating-point operations by the usual counting.

Counted are matrix multiplications alone, 2 * m * n * k each; the backward pass is twice the forward one. The output
layer counts at the predictions, padding counts like text, and layers that are computed again count once: "model
FLOPs" as in PaLM (Chowdhery et al. 2022, appendix B).
"""

from __future__ import annotations

import functools
import json
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from bertline.model.config import BertConfig
from bertline.model.training.checkpoint import Arrays
from bertline.progress import say

WINDOW = 50  # calls of one or more steps that a rate is a mean of
SPEED_FILE = "training_speed.jsonl"
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


@dataclass(frozen=True)
class Timed:
    """Steps, and the time they took together."""

    seconds: float
    steps: int
    sequences: int
    tokens: int
    flops: int

    def __add__(self, other: Timed) -> Timed:
        """Both together."""
        return Timed(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


class Rates:
    """Sequences, tokens and operations a second over the last calls; without compilation, evaluations and snapshots."""

    def __init__(self, work_of: Callable[[Arrays], StepWork], peak_flops: float) -> None:
        """`work_of` says what a step on a batch is; `peak_flops` what the devices together do at most, per second."""
        self._work_of, self._peak = work_of, peak_flops
        self._calls: deque[Timed] = deque(maxlen=WINDOW)

    def time(self, seconds: float, batch: Arrays, steps: int = 1) -> Timed:
        """So many steps on such batches, which took that long."""
        work = self._work_of(batch)
        return Timed(seconds, steps, steps * work.sequences, steps * work.tokens, steps * work.flops)

    def add(self, timed: Timed) -> None:
        """Count steps in."""
        self._calls.append(timed)

    def row(self) -> dict[str, float]:
        """The rates by TensorBoard's names; none before they are known."""
        seconds = sum(call.seconds for call in self._calls)
        if seconds <= 0:
            return {}
        flops = sum(call.flops for call in self._calls) / seconds
        return {
            "rate/steps_per_second": sum(call.steps for call in self._calls) / seconds,
            "rate/sequences_per_second": sum(call.sequences for call in self._calls) / seconds,
            "rate/tokens_per_second": sum(call.tokens for call in self._calls) / seconds,
            "rate/model_flops_per_second": flops,
            # What the peak was measured by may have shared the device with others: what is reached here is no less.
            "rate/share_of_peak": flops / max(flops, self._peak),
        }

    def facts(self) -> dict[str, float | str]:
        """The rates as a line of progress shows them."""
        row = self.row()
        if not row:
            return {}
        return {
            "steps/s": row["rate/steps_per_second"],
            "sequences/s": row["rate/sequences_per_second"],
            "tokens/s": row["rate/tokens_per_second"],
            "FLOP/s": format_with_prefix(row["rate/model_flops_per_second"]),
            "share of peak": f"{row['rate/share_of_peak']:.0%}",
        }


class Stopwatch:
    """Times calls from one report to the next, but for those that were compiled first.

    A call is reported once the next one was dispatched. Where a device computes on its own, one call is computed by the
    first report; where dispatching is computing, two are, and none between the last two reports. Reports between them
    stand for one call each; the first and the last are right together.
    """

    def __init__(self, rates: Rates, log: SpeedLog | None = None) -> None:
        """`rates` gets the times, `log` the rates."""
        self.rates, self._log, self._compiled = rates, log, set[Hashable]()
        self.restart()

    def restart(self) -> None:
        """Leave out what has passed since the last report; no call is being computed."""
        self._since = time.perf_counter()
        self._first: Timed | None = None

    def is_compiled(self, shapes: Hashable) -> bool:
        """Whether a call of such shapes was reported; one of new shapes must stand alone, reported at once."""
        return shapes in self._compiled

    def note_report(self, shapes: Hashable, batch: Arrays, steps: int, *, is_last: bool) -> None:
        """Note that a call of so many steps on such batches has ended; no other is being computed if it `is_last`."""
        now = time.perf_counter()
        timed = self.rates.time(now - self._since, batch, steps)
        self._since = now
        if not self.is_compiled(shapes):
            self._compiled.add(shapes)
        elif self._first is None and not is_last:
            self._first = timed
        else:
            self.rates.add(timed + self._first if self._first and is_last else timed)
        if is_last:
            self.restart()

    def note_row(self, step: int) -> dict[str, float]:
        """Note that the training's log has a row of this step; the rates by TensorBoard's names."""
        row = self.rates.row()
        if self._log is not None:
            self._log.add(step, row)
        return row


def new_stopwatch(
    work_of: Callable[[Arrays], StepWork], devices: int, precision: str, log: SpeedLog | None
) -> Stopwatch:
    """One that holds a training's speed against the peak of its devices, which is measured and said."""
    peak = measure_peak(precision)
    say(f"peak: {format_with_prefix(peak)} FLOP/s, measured of matrix multiplications in {precision} on this device")
    return Stopwatch(Rates(work_of, devices * peak), log)


class SpeedLog:
    """When training had come to each row of its log, and how fast it was: lines that a resumed run goes on with.

    They lie with TensorBoard's events, for a checkpoint holds what is the same whenever it is made.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """What an interrupted run did after `step` is done again, and left out."""
        self._path = folder / SPEED_FILE
        folder.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may be cut
        kept = [row for row in rows if row["step"] <= step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._started = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def add(self, step: int, rates: Mapping[str, float]) -> None:
        """Note that the log has a row of this step; `rates` by TensorBoard's names."""
        row = {"step": step, "seconds": round(time.monotonic() - self._started, 3)}
        figures = {name.removeprefix("rate/"): float(f"{value:.4g}") for name, value in rates.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | figures) + "\n")


def format_with_prefix(value: float) -> str:
    """Three digits and a prefix: 31.2G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{PREFIXES[power]}"
