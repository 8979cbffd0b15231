"""Float32 vectors -> the JSON lines of google-research/bert's extract_features.py, at the speed of a compiled loop.

Every number is spelt as Python's `json.dumps(round(float(number), 6))` spells it. This is exact:

* A float32 times 10**6 needs at most 38 bits, so the product in float64 is exact, and rounding it half to even
  gives the six decimals that `round` gives.
* Below 10**9 the result has at most 15 digits. Python prints the shortest decimal that reads back as the same
  float64, and decimals of up to 15 digits all read back as different ones.

Numbers from 10**9 on, infinities and NaN are rare in a model's output; a line that holds one is written by Python.
"""

import json
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled

DECIMALS = 6
MILLION = 10**DECIMALS
LARGEST = 1e9  # exclusive, of the numbers that the compiled loop writes
LONGEST_NUMBER = len("-999999999.999999, ")  # bytes
MOST_LABELS = 1 << 17  # then they are made afresh, so that memory is bounded

_TOKEN_END, _BETWEEN = np.frombuffer(b"]}]}", np.uint8), np.frombuffer(b", ", np.uint8)
_MINUS, _DOT, _ZERO, _COMMA, _BLANK, _E = (np.uint8(ord(char)) for char in "-.0, e")
_TEN, _MILLION = np.uint32(10), np.uint64(MILLION)  # unsigned divisions are the faster ones


class LineFormat:
    """Writes lines about the given layers, whose numbers stand in the text as they were asked for."""

    def __init__(self, layers: Sequence[int]) -> None:
        self._layers = tuple(layers)
        heads = [f'{"" if place == 0 else "]}, "}{{"index": {layer}, "values": [' for place, layer in enumerate(layers)]
        self._heads, self._head_ends = _joined([head.encode() for head in heads])
        self._labels: dict[str, bytes] = {}
        self._buffer = np.empty(0, np.uint8)

    def write(self, file: BinaryIO, number: int, labels: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write the line about text `number`, whose vectors are [labels, layers, hidden]."""
        texts, text_ends = _joined([self._label(label) for label in labels])
        vectors = np.ascontiguousarray(vectors)
        around = len(self._heads) + len(_TOKEN_END) + len(_BETWEEN)  # a token's vectors
        room = len(texts) + len(labels) * around + vectors.size * LONGEST_NUMBER
        if room > len(self._buffer):
            self._buffer = np.empty(room, np.uint8)
        end = _write_features(self._buffer, texts, text_ends, self._heads, self._head_ends, vectors)
        if end < 0:
            file.write(self._line_by_python(number, labels, vectors))
            return
        file.write(b'{"linex_index": %d, "features": [' % number)
        file.write(self._buffer[:end].data)
        file.write(b"]}\n")

    def _label(self, label: str) -> bytes:
        """What stands between the vectors of the token before and those of `label`."""
        if label not in self._labels:
            if len(self._labels) >= MOST_LABELS:
                self._labels.clear()
            self._labels[label] = f'{{"token": {json.dumps(label)}, "layers": ['.encode()
        return self._labels[label]

    def _line_by_python(self, number: int, labels: Sequence[str], vectors: NDArray[np.float32]) -> bytes:
        features = [
            {
                "token": label,
                "layers": [
                    {"index": layer, "values": [round(value, DECIMALS) for value in values]}
                    for layer, values in zip(self._layers, of_token.tolist())
                ],
            }
            for label, of_token in zip(labels, vectors)
        ]
        return json.dumps({"linex_index": number, "features": features}).encode() + b"\n"


def number_text(number: float) -> str:
    """One float32 number as the compiled loop writes it; of less than LARGEST."""
    out = np.empty(LONGEST_NUMBER, np.uint8)
    return out[: _write_number(out, 0, np.float32(number))].tobytes().decode()


def _joined(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The texts one behind the other, and where each ends."""
    return np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(text) for text in texts])


@compiled
def _write_features(
    out: NDArray[np.uint8],
    texts: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    heads: NDArray[np.uint8],
    head_ends: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> int:
    """Fill `out` with the entries of a line; gives their end, or -1 for a number that is not below LARGEST."""
    tokens, layers, hidden = vectors.shape
    place = 0
    text_begin: int | np.int64 = 0
    for token in range(tokens):
        if token:
            place = _copy(out, place, _BETWEEN, 0, len(_BETWEEN))
        place = _copy(out, place, texts, text_begin, text_ends[token])
        text_begin = text_ends[token]
        head_begin: int | np.int64 = 0
        for layer in range(layers):
            place = _copy(out, place, heads, head_begin, head_ends[layer])
            head_begin = head_ends[layer]
            for column in range(hidden):
                number = vectors[token, layer, column]
                if not abs(number) < LARGEST:
                    return -1
                if column:
                    out[place], out[place + 1] = _COMMA, _BLANK
                    place += 2
                place = _write_number(out, place, number)
        place = _copy(out, place, _TOKEN_END, 0, len(_TOKEN_END))
    return place


@compiled
def _copy(
    out: NDArray[np.uint8], place: int, source: NDArray[np.uint8], begin: int | np.int64, end: int | np.int64
) -> int:
    for number in range(begin, end):
        out[place] = source[number]
        place += 1
    return place


@compiled
def _write_number(out: NDArray[np.uint8], place: int, number: np.float32) -> int:
    """Write one number at `place`; gives where it ends."""
    out[place] = _MINUS
    place += int(np.signbit(number))  # without a branch, which would be foretold wrong half of the time
    millionths = np.uint64(np.rint(abs(np.float64(number)) * MILLION))
    if millionths < np.uint64(100) and millionths:  # below 0.0001 Python writes 1.2e-05
        return _write_with_exponent(out, place, np.uint32(millionths))
    whole, rest = np.uint32(millionths // _MILLION), np.uint32(millionths % _MILLION)
    digits = 1
    if whole >= _TEN:
        digits = _count_digits(whole)
    _write_digits(out, place, whole, digits)
    place += digits
    out[place] = _DOT
    _write_decimals(out, place + 1, rest)
    place += DECIMALS
    while out[place] == _ZERO and out[place - 1] != _DOT:
        place -= 1
    return place + 1


@compiled
def _write_decimals(out: NDArray[np.uint8], place: int, millionths: np.uint32) -> None:
    """Six digits; each is computed from the whole, so that no division waits for another."""
    out[place] = _ZERO + np.uint8(millionths // np.uint32(100_000))
    out[place + 1] = _ZERO + np.uint8(millionths // np.uint32(10_000) % _TEN)
    out[place + 2] = _ZERO + np.uint8(millionths // np.uint32(1_000) % _TEN)
    out[place + 3] = _ZERO + np.uint8(millionths // np.uint32(100) % _TEN)
    out[place + 4] = _ZERO + np.uint8(millionths // _TEN % _TEN)
    out[place + 5] = _ZERO + np.uint8(millionths % _TEN)


@compiled
def _write_with_exponent(out: NDArray[np.uint8], place: int, millionths: np.uint32) -> int:
    first, second, exponent = millionths, np.uint32(0), np.uint8(6)
    if millionths >= _TEN:
        first, second, exponent = millionths // _TEN, millionths % _TEN, np.uint8(5)
    out[place] = _ZERO + np.uint8(first)
    place += 1
    if second:
        out[place], out[place + 1] = _DOT, _ZERO + np.uint8(second)
        place += 2
    out[place], out[place + 1] = _E, _MINUS
    out[place + 2], out[place + 3] = _ZERO, _ZERO + exponent
    return place + 4


@compiled
def _count_digits(number: np.uint32) -> int:
    digits = 1
    while number >= _TEN:
        number //= _TEN
        digits += 1
    return digits


@compiled
def _write_digits(out: NDArray[np.uint8], place: int, number: np.uint32, digits: int) -> None:
    for back in range(digits):
        out[place + digits - 1 - back] = _ZERO + np.uint8(number % _TEN)
        number //= _TEN
