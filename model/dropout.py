"""Dropout whose masks are a function of (seed, step, place in the network), so that resuming needs no state."""

import math
from typing import Any

import numpy as np
from keras import ops

Tensor = Any

GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: the bits of consecutive numbers become unlike
DRAWS_A_STEP = 1024  # room for the draws of one step: three a layer, and a few


class Dropout:
    """The dropout of one step; call as dropout(x, rate), in the same order in every step.

    Random numbers are a hash of the element's number: integer operations that XLA can fuse into the layer, and
    no state of a generator to save.
    """

    def __init__(self, seed: int, step: Tensor) -> None:
        """`step` is an integer tensor, so that one compiled function serves all steps."""
        self._seed = seed
        self._draw = ops.cast(step, "uint32") * _uint32(DRAWS_A_STEP)

    def __call__(self, x: Tensor, rate: float) -> Tensor:
        """Zero a share `rate` of the elements of x, whose shape is static, and scale up the others."""
        if rate == 0.0:
            return x
        self._draw = self._draw + _uint32(1)
        words = _random_words(math.prod(x.shape), _mixed(ops.bitwise_xor(_mixed(_uint32(self._seed)), self._draw)))
        keep = ops.reshape(words >= _uint32(int(rate * 2**32)), x.shape)
        return ops.where(keep, x * ops.cast(1.0 / (1.0 - rate), x.dtype), ops.zeros_like(x))


def _random_words(count: int, key: Tensor) -> Tensor:
    """Uniform uint32 numbers, [count]."""
    numbers = ops.cast(ops.arange(count, dtype="int32"), "uint32")
    return _mixed(ops.bitwise_xor(numbers * _uint32(GOLDEN), key))


def _mixed(word: Tensor) -> Tensor:
    """A bijection of uint32 in which every input bit changes half of the output bits ("lowbias32", C. Wellons)."""
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(16))) * _uint32(0x7FEB352D)
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(15))) * _uint32(0x846CA68B)
    return ops.bitwise_xor(word, ops.right_shift(word, _uint32(16)))


def _uint32(value: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(value))
