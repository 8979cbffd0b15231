"""Floating-point operations of a step, by the usual counting, and how many the device does at most.

Counted are matrix multiplications alone, 2 * m * n * k each; the backward pass is twice the forward one. The output
layer counts at the predictions, padding counts like text, and layers that are computed again count once: "model
FLOPs" as in PaLM (Chowdhery et al. 2022, appendix B).
"""

import functools
import time
from dataclasses import dataclass

import numpy as np

from bertline.model.config import BertConfig

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


def forward_flops(config: BertConfig, batch: int, length: int, predictions: int) -> int:
    """Operations of the encoder, the pooler and both pretraining heads on a batch."""
    hidden, feed_forward, tokens = config.hidden_size, config.intermediate_size, batch * length
    projections = 4 * tokens * hidden * hidden  # query, key, value and output
    attention = 2 * tokens * length * hidden  # scores, and the means of values
    layer = projections + attention + 2 * tokens * hidden * feed_forward
    masked_lm = batch * predictions * hidden * (hidden + config.vocab_size)
    next_sentence = batch * hidden * (hidden + 2)  # with the pooler
    return 2 * (config.num_hidden_layers * layer + masked_lm + next_sentence)


@functools.cache
def measured_peak(precision: str) -> float:
    """Operations a second of square matrix multiplications in that precision on the backend's device, measured.

    Takes about half a second; on a device whose other users take their share it is less than the device's best.
    """
    peak = 0.0
    for size in SIZES:
        seconds = _seconds_of_product(size, precision)
        peak = max(peak, 2 * size**3 / seconds)
        if seconds > LONG_ENOUGH_SECONDS:
            break
    return peak


def _seconds_of_product(size: int, precision: str) -> float:
    from keras import ops

    from bertline.model.training.backends.choice import compiled_forward

    block = np.random.default_rng(0).standard_normal((SIZES[0], SIZES[0]), np.float32)
    matrix = ops.cast(ops.tile(block, (size // SIZES[0],) * 2), precision.removeprefix("mixed_"))
    # Not by XLA, which on a processor has no use for its bfloat16 units; JAX compiles by it in any case.
    product = compiled_forward(
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
