"""Dropout whose masks are a function of (seed, step, place, example), so that resuming needs no state.

An example gets the same masks however a batch is cut into micro-batches or spread over devices, on every backend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

if TYPE_CHECKING:
    from bertline.model.bert import Tensor

GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: the bits of consecutive numbers become unlike
PLACES_A_STEP = 1024  # room for the places of one network: three a layer, and a few
BYTES_A_WORD = 4


class Dropout:
    """The dropout of one step on some examples of its batch; call as dropout(x, rate, place).

    Random bytes are a hash of the element's number: integer operations that XLA can fuse into the layer. A byte
    decides, so rates are multiples of 1/256: 0.1 is 26/256.
    """

    def __init__(self, seed: int, step: Tensor, examples: Tensor) -> None:
        """`step` is an integer tensor, so that one compiled function serves all steps; `examples` int32 [batch],
        the examples' numbers in the step's batch.
        """
        self._seed = seed
        self._step = ops.cast(step, "uint32") * _uint32(PLACES_A_STEP)
        self._examples = ops.cast(examples, "uint32")

    def __call__(self, x: Tensor, rate: float, place: int) -> Tensor:
        """Zero a share `rate` of the elements of x and scale up the others.

        The shape of x is static, its first axis a multiple of the batch; `place` is the number of the call in the
        network.
        """
        threshold = round(rate * 256)
        if threshold == 0:
            return x
        key = _mix(ops.bitwise_xor(_mix(_uint32(self._seed)), self._step + _uint32(place)))
        keep = ops.greater_equal(self._bytes(x.shape, key), ops.convert_to_tensor(np.uint8(threshold)))
        return ops.where(keep, x * ops.cast(256.0 / (256.0 - threshold), x.dtype), ops.zeros_like(x))

    def _bytes(self, shape: tuple[int, ...], key: Tensor) -> Tensor:
        """Uniform random bytes of that shape."""
        batch = self._examples.shape[0]
        each = math.prod(shape) // batch  # elements of an example
        words = -(-each // BYTES_A_WORD)
        numbers = self._examples[:, None] * _uint32(words) + ops.cast(ops.arange(words, dtype="int32"), "uint32")
        mixed = _mix(ops.bitwise_xor(numbers * _uint32(GOLDEN), key))  # [batch, words]
        return ops.reshape(ops.reshape(ops.view(mixed, "uint8"), (batch, -1))[:, :each], shape)


def _mix(word: Tensor) -> Tensor:
    """A bijection of uint32 in which every input bit changes half of the output bits ("lowbias32", C. Wellons)."""
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(16))) * _uint32(0x7FEB352D)
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(15))) * _uint32(0x846CA68B)
    return ops.bitwise_xor(word, ops.right_shift(word, _uint32(16)))


def _uint32(value: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(value))
