"""Words to small integers: a hash table that looks up a whole text's words at once.

A word is known by its own bytes, so no two words can be confused: up to 24 bytes as three integers, longer
ones by a number of their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 24
NEVER_A_WORD = np.uint64(0xFFFFFFFFFFFFFFFF)  # 0xFF occurs in no UTF-8 text
FREE = -1
FIRST_SLOTS = 1 << 16

# Keeps the first 0..8 bytes of a little-endian integer.
_BYTE_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
# Odd 64-bit constants of xxHash (Yann Collet), which spread every input bit.
_MIX_1, _MIX_2, _MIX_3 = (np.uint64(prime) for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True)
class WordKeys:
    """The bytes of N words as three columns of integers, each uint64 [N]."""

    columns: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, indices: NDArray[np.int64]) -> "WordKeys":
        """The keys of the words at `indices`."""
        first, second, third = self.columns
        return WordKeys((first[indices], second[indices], third[indices]))


class WordTable:
    """Numbers words in the order in which they are added: 0, 1, 2, ..."""

    def __init__(self) -> None:
        self._slots = np.full(FIRST_SLOTS, FREE, dtype=np.int32)
        self._columns = tuple(np.zeros(FIRST_SLOTS // 2, dtype=np.uint64) for _ in range(3))
        self._long_words: dict[bytes, int] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def keys(self, text: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> WordKeys:
        """The keys of the words text[starts[i]:ends[i]]."""
        padded = np.frombuffer(text + bytes(KEY_BYTES), dtype=np.uint8)
        # The eight bytes from every position, read as one integer without copying the text.
        eight_bytes = np.ndarray((len(text) + KEY_BYTES - 7,), dtype="<u8", buffer=padded, strides=(1,))
        lengths = ends - starts
        first = eight_bytes[starts] & _BYTE_MASKS[np.minimum(lengths, 8)]
        second, third = np.zeros_like(first), np.zeros_like(first)
        over_8 = np.flatnonzero(lengths > 8)
        second[over_8] = eight_bytes[starts[over_8] + 8] & _BYTE_MASKS[np.minimum(lengths[over_8] - 8, 8)]
        over_16 = over_8[lengths[over_8] > 16]
        third[over_16] = eight_bytes[starts[over_16] + 16] & _BYTE_MASKS[np.minimum(lengths[over_16] - 16, 8)]
        for index in over_16[lengths[over_16] > KEY_BYTES].tolist():
            word = text[starts[index] : ends[index]]
            first[index] = self._long_words.setdefault(word, len(self._long_words))
            second[index], third[index] = 0, NEVER_A_WORD
        return WordKeys((first, second, third))

    def find(self, keys: WordKeys) -> NDArray[np.int32]:
        """The number of every word, FREE for words that were never added."""
        slots = self._home_slots(keys)
        numbers = self._slots[slots]
        pending = np.flatnonzero(self._differ(numbers, keys))
        while len(pending):
            slots[pending] = (slots[pending] + 1) & (len(self._slots) - 1)
            numbers[pending] = self._slots[slots[pending]]
            pending = pending[self._differ(numbers[pending], keys.take(pending))]
        return numbers

    def add(self, keys: WordKeys) -> None:
        """Number words that are new and distinct."""
        first, self._size = self._size, self._size + len(keys)
        if self._size * 2 > len(self._slots):
            self._grow()
        for column, values in zip(self._columns, keys.columns):
            column[first : self._size] = values
        self._place(np.arange(first, self._size, dtype=np.int32), keys)

    def _grow(self) -> None:
        slots = len(self._slots)
        while self._size * 2 > slots:
            slots *= 2
        held = int(np.count_nonzero(self._slots != FREE))
        self._slots = np.full(slots, FREE, dtype=np.int32)
        self._columns = tuple(np.resize(column, slots // 2) for column in self._columns)
        first, second, third = (column[:held] for column in self._columns)
        self._place(np.arange(held, dtype=np.int32), WordKeys((first, second, third)))

    def _place(self, numbers: NDArray[np.int32], keys: WordKeys) -> None:
        slots = self._home_slots(keys)
        while len(numbers):
            free = self._slots[slots] == FREE
            self._slots[slots[free]] = numbers[free]
            # Of several words that want one slot the last one written has it; the others try the next.
            lost = self._slots[slots] != numbers
            numbers, slots = numbers[lost], (slots[lost] + 1) & (len(self._slots) - 1)

    def _home_slots(self, keys: WordKeys) -> NDArray[np.int64]:
        first, second, third = keys.columns
        mixed = first * _MIX_1 ^ (second + _MIX_2) * _MIX_3 ^ (third + _MIX_3) * _MIX_2
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MIX_3
        return (mixed >> np.uint64(65 - len(self._slots).bit_length())).astype(np.int64)

    def _differ(self, numbers: NDArray[np.int32], keys: WordKeys) -> NDArray[np.bool_]:
        """Whether a word was compared with another one; a free slot (-1) ends the search instead."""
        first, second, third = (stored[numbers] != wanted for stored, wanted in zip(self._columns, keys.columns))
        return (first | second | third) & (numbers != FREE)
