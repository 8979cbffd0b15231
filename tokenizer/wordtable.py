"""Words of normalised text -> numbers, and numbers -> ids of pieces, each in one compiled pass.

A word is known by its own bytes, so no two words can be confused. What a table holds is bounded; when it is
full, the text goes on with an emptied one.
"""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.normalize import is_punctuation

LINE_END = -1  # stands among the numbers of words
LONG_WORD = 0  # the number of every word of more than LONGEST_WORD bytes
LONGEST_WORD = 800  # bytes; longer words have more than 200 characters, as UTF-8 takes at most 4 for one
BYTES_PER_WORD = 12  # room in a full table, on average

# xxHash's first prime (Yann Collet), which spreads every bit upwards.
_MIX, _HALF, _BYTE, _LONG_KEY = np.uint64(0x9E3779B185EBCA87), np.uint64(32), np.uint64(8), np.uint64(0xFF << 56)
_BLANK, _NEWLINE, _LETTER, _PUNCTUATION = 0, 1, 2, 3


def _kind(code: int) -> int:
    """Whether a byte separates words, ends a line, belongs to a word or is one by itself."""
    if code == ord("\n"):
        return _NEWLINE
    if code < 128 and is_punctuation(chr(code)):
        return _PUNCTUATION  # others count as letters: they have blanks around them
    return _LETTER if code > ord(" ") else _BLANK


_KINDS = np.array([_kind(code) for code in range(256)], np.uint8)


class WordTable:
    """Numbers words in the order in which they are met: 1, 2, 3, ..., and keeps the pieces of each."""

    def __init__(self, max_words: int, pieces_of_long_words: Sequence[int]) -> None:
        # A word's key and number; at most half are taken, free ones hold zeros.
        self._slots = np.zeros((2 << (max_words - 1).bit_length(), 2), np.uint64)
        self._ends = np.zeros(max_words + 1, np.int64)  # word n is letters[ends[n - 1]:ends[n]]
        self._letters = np.zeros(max_words * BYTES_PER_WORD + LONGEST_WORD, np.uint8)
        self._size = 1  # words with a number, the long ones' included
        self._firsts = np.zeros(max_words + 2, np.int64)  # the pieces of word n are pool[firsts[n]:firsts[n + 1]]
        self._pool = np.array(pieces_of_long_words, np.int32)
        self._firsts[1] = len(self._pool)

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Forget all words."""
        self._slots[:] = 0
        self._size = 1

    def number(
        self, text: NDArray[np.uint8], position: int, split: Callable[[bytes], Sequence[int]]
    ) -> tuple[NDArray[np.int32], int]:
        """The numbers of the words of `text` from `position` on, LINE_END for every newline, and where it stopped.

        `split` gives the pieces of a word that is new. It stops before a word that finds no room, else at
        the end of `text`, which comes from LineNormalizer and ends with a newline.
        """
        numbers = np.empty(len(text) - position, np.int32)
        known, arrays = self._size, (self._slots, self._ends, self._letters)
        try:
            count, self._size, position = _number_words(text, position, _KINDS, *arrays, known, numbers)
            self._enter([split(word) for word in self._words(known)])
        except BaseException:  # such as an interrupt: no word may stay without its pieces
            self.clear()
            raise
        return numbers[:count], position

    def _words(self, first: int) -> list[bytes]:
        """The words from number `first` on."""
        ends = self._ends[first - 1 : self._size]
        letters = self._letters[ends[0] : ends[-1]].tobytes()
        return [letters[begin:end] for begin, end in pairwise((ends - ends[0]).tolist())]

    def _enter(self, pieces: Sequence[Sequence[int]]) -> None:
        """Keep the pieces of the last words, in their order."""
        first = self._size - len(pieces)
        begin = int(self._firsts[first])
        self._firsts[first + 1 : self._size + 1] = begin + np.cumsum([len(ids) for ids in pieces])
        end = int(self._firsts[self._size])
        if end > len(self._pool):
            self._pool = np.resize(self._pool, max(end, 2 * len(self._pool)))
        self._pool[begin:end] = list(chain.from_iterable(pieces))

    def pieces(self, numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of a sequence of words, and how many of them stand before each LINE_END."""
        ids = np.empty(_count_pieces(numbers, self._firsts), np.int32)
        line_ends = np.empty(len(numbers), np.int64)
        lines = _copy_pieces(numbers, self._firsts, self._pool, ids, line_ends)
        return ids, line_ends[:lines]


@compiled
def _number_words(
    text: NDArray[np.uint8],
    position: int,
    kinds: NDArray[np.uint8],
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    letters: NDArray[np.uint8],
    size: int,
    numbers: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Fill `numbers`; gives how many there are, the new size of the table, and where in `text` it stopped."""
    count = 0
    while position < len(text):
        kind, end = kinds[text[position]], position + 1
        if kind != _BLANK:
            number: int | np.int64 = LINE_END
            if kind != _NEWLINE:
                end, key, mixed = _read_word(text, position, kinds)
                number = LONG_WORD
            if number == LONG_WORD and end - position <= LONGEST_WORD:
                slot = _find_slot(text, position, end, key, mixed, slots, ends, letters)
                if slots[slot, 0] == 0:
                    if not _keep_letters(text, position, end, ends, letters, size):
                        break
                    slots[slot, 0], slots[slot, 1] = key, size
                    size += 1
                number = np.int64(slots[slot, 1])  # with a plain uint64 Numba would make it a float
            numbers[count] = number
            count += 1
        position = end
    return count, size, position


@compiled
def _read_word(text: NDArray[np.uint8], begin: int, kinds: NDArray[np.uint8]) -> tuple[int, np.uint64, np.uint64]:
    """Where the word at `begin` ends, its key and its hash.

    The key of up to 8 bytes is these bytes, so it is equal for equal words alone. Keys of longer words
    begin with a byte that no UTF-8 text holds; they may be equal by chance.
    """
    key, mixed, end = np.uint64(text[begin]), np.uint64(0), begin + 1
    if kinds[text[begin]] == _LETTER:
        while kinds[text[end]] == _LETTER:
            if (end - begin) & 7 == 0:  # eight more letters are full
                mixed = (mixed ^ key) * _MIX
                mixed ^= mixed >> _HALF
                key = np.uint64(0)
            key = (key << _BYTE) | np.uint64(text[end])
            end += 1
    mixed = (mixed ^ key) * _MIX
    mixed ^= mixed >> _HALF
    if end - begin > 8:
        key = mixed | _LONG_KEY
    return end, key, mixed


@compiled
def _find_slot(
    text: NDArray[np.uint8],
    begin: int,
    end: int,
    key: np.uint64,
    mixed: np.uint64,
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    letters: NDArray[np.uint8],
) -> np.uint64:
    """The slot with the number of the word text[begin:end], or the free one in which it belongs."""
    mask = np.uint64(len(slots) - 1)
    slot = (mixed >> np.uint64(40)) & mask  # a product's upper bits hang on all of the key
    while True:
        found = slots[slot, 0]
        if found == key:
            if end - begin <= 8 or _has_letters(text, begin, end, ends, letters, np.int64(slots[slot, 1])):
                return slot
        elif found == 0:
            return slot
        slot = (slot + np.uint64(1)) & mask


@compiled
def _has_letters(
    text: NDArray[np.uint8], begin: int, end: int, ends: NDArray[np.int64], letters: NDArray[np.uint8], number: np.int64
) -> bool:
    """Whether text[begin:end] is the word with this number."""
    first = ends[number - 1]
    if ends[number] - first != end - begin:
        return False
    place = begin
    while place < end and text[place] == letters[first + place - begin]:
        place += 1
    return place == end


@compiled
def _keep_letters(
    text: NDArray[np.uint8], begin: int, end: int, ends: NDArray[np.int64], letters: NDArray[np.uint8], number: int
) -> bool:
    """Keep text[begin:end] as the word with the next number, unless there is no room."""
    first = ends[number - 1]
    if number == len(ends) or first + end - begin > len(letters):
        return False
    for place in range(begin, end):
        letters[first + place - begin] = text[place]
    ends[number] = first + end - begin
    return True


@compiled
def _count_pieces(numbers: NDArray[np.int32], firsts: NDArray[np.int64]) -> int:
    total = 0
    for number in numbers:
        if number != LINE_END:
            total += firsts[number + 1] - firsts[number]
    return total


@compiled
def _copy_pieces(
    numbers: NDArray[np.int32],
    firsts: NDArray[np.int64],
    pool: NDArray[np.int32],
    ids: NDArray[np.int32],
    line_ends: NDArray[np.int64],
) -> int:
    """Fill `ids` and `line_ends`; gives how many lines end."""
    place = lines = 0
    for number in numbers:
        if number == LINE_END:
            line_ends[lines] = place
            lines += 1
        else:
            for source in range(firsts[number], firsts[number + 1]):
                ids[place] = pool[source]
                place += 1
    return lines
