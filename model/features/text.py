"""Float32 vectors -> the JSON lines of google-research/bert's extract_features.py, byte for byte.

Every number is spelt as `json.dumps(round(float(number), 6))` spells it. A compiled loop does so exactly: a float32
times 10**6 is exact in float64, so rounding it half to even gives the decimals of `round`; below 10**9 these are at
most 15 digits, and Python prints any decimal of 15 digits as it is. A line that holds a larger number, an infinity or
NaN is written by NumPy and json, which take thirteen times as long.
"""

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled

DECIMALS = 6
LARGEST = 1e9  # exclusive, of the numbers that the compiled loop writes
LONGEST_NUMBER = len("-999999999.999999, ")  # bytes
# Numbers below 0.0001 are spelt 1.2e-05: the texts of 0 to 99 millionths, filled up with zero bytes.
_TINY = np.array([json.dumps(number / 10**DECIMALS).encode() for number in range(100)]).view(np.uint8).reshape(100, -1)
_MINUS, _DOT, _ZERO, _COMMA, _BLANK = (np.uint8(ord(char)) for char in "-.0, ")
_TEN = np.uint64(10)  # unsigned divisions are the faster ones


def json_line(number: int, labels: Sequence[str], layers: Sequence[int], vectors: NDArray[np.float32]) -> bytes:
    """The line about text `number`: its tokens' labels and their vectors, [labels, layers, hidden]."""
    values = iter(_spell_rows(vectors.reshape(-1, vectors.shape[-1])))
    heads = [
        f'{"" if place == 0 else "]}, "}{{"index": {layer}, "values": ['.encode() for place, layer in enumerate(layers)
    ]
    texts = [f'{{"linex_index": {number}, "features": ['.encode()]
    for place, label in enumerate(labels):
        texts.append(f'{"" if place == 0 else "]}]}, "}{{"token": {json.dumps(label)}, "layers": ['.encode())
        for head in heads:
            texts += (head, next(values))
    return b"".join([*texts, b"]}]}]}\n"])


def _spell_rows(rows: NDArray[np.float32]) -> list[bytes]:
    """The numbers of each row with commas between them."""
    if not np.all(np.abs(rows) < LARGEST):
        decimals = np.round(rows.astype(np.float64), DECIMALS)
        return [json.dumps(row)[1:-1].encode() for row in decimals.tolist()]
    out, ends = np.empty(rows.size * LONGEST_NUMBER, np.uint8), np.zeros(len(rows) + 1, np.int64)
    _write_rows(out, ends, np.ascontiguousarray(rows))
    text = out[: ends[-1]].tobytes()
    return [text[begin:end] for begin, end in pairwise(ends.tolist())]


@compiled
def _write_rows(out: NDArray[np.uint8], ends: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
    """Fill `out` with all rows, one behind the other; ends[i + 1] is where row i ends."""
    place = 0
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            if column:
                out[place], out[place + 1] = _COMMA, _BLANK
                place += 2
            place = _write_number(out, place, rows[row, column])
        ends[row + 1] = place


@compiled
def _write_number(out: NDArray[np.uint8], place: int, number: np.float32) -> int:
    """Write one number at `place`; gives where it ends."""
    out[place] = _MINUS
    place += int(np.signbit(number))  # without a branch, which would be mispredicted half of the time
    millionths = np.uint64(np.rint(abs(np.float64(number)) * 10**DECIMALS))
    if millionths < len(_TINY):
        for letter in _TINY[millionths]:
            if letter:
                out[place] = letter
                place += 1
        return place
    dot = place + 1
    while millionths >= 10 ** (DECIMALS + dot - place):
        dot += 1
    for digit in range(dot + DECIMALS, place - 1, -1):
        if digit == dot:
            out[digit] = _DOT
        else:
            out[digit] = _ZERO + np.uint8(millionths % _TEN)
            millionths //= _TEN
    last = dot + DECIMALS
    while out[last] == _ZERO and last > dot + 1:
        last -= 1
    return last + 1
