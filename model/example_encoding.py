"""Arrays to tf.train.Example records in TFRecord frames, for a whole block of rows at once.

The bytes are those of `Example.SerializeToString(deterministic=True)` in frames as tf.io.TFRecordWriter
writes them; building every record as a message of its own takes fifteen times as long.
https://protobuf.dev/programming-guides/encoding and tensorflow/core/example/example.proto
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

FLOAT_LIST, INT64_LIST = 2, 3  # field numbers in message Feature
LARGEST_INTEGER = (1 << 28) - 1  # four bytes of seven bits
CRC_MASK = np.uint32(0xA282EAD8)  # tensorflow/core/lib/hash/crc32c.h
_BYTE_2, _BYTE_3, _BYTE_4 = (np.array(1 << 8 * place, "<u4") for place in (1, 2, 3))
FRAME_HEAD, FRAME_TAIL = 12, 4  # length and its CRC before a record, the record's CRC after it


@dataclass(frozen=True)
class Columns:
    """Bytes of N messages side by side: fixed places, of which every row keeps some."""

    places: list[NDArray[np.uint8]]  # each [N or 1, width]
    kept: list[NDArray[np.bool_] | None]  # the same shapes; None keeps all
    sizes: NDArray[np.int64]  # [N or 1], bytes kept per row

    def __add__(self, other: "Columns") -> "Columns":
        return Columns(self.places + other.places, self.kept + other.kept, self.sizes + other.sizes)


def encode_examples(features: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The framed records of N examples, each of whose features is a row of an [N, k] array.

    Integer arrays become Int64Lists, floating ones FloatLists. Raises ValueError for integers outside
    0..LARGEST_INTEGER, which no id, position or label is.
    """
    entries = [_feature_entry(name, np.asarray(features[name])) for name in sorted(features)]
    example = _field(1, _joined(entries))
    rows = len(next(iter(features.values())))
    sizes = np.broadcast_to(example.sizes, rows).astype(np.int64)
    lengths = sizes.astype("<u8").view(np.uint8).reshape(rows, 8)
    head = Columns([lengths, _length_crcs(sizes)], [None, None], np.array([FRAME_HEAD]))
    framed = _joined([head, example, _constant(bytes(FRAME_TAIL))])
    return _with_record_crcs(_compressed(framed, rows), sizes)


def masked_crcs(contents: Iterable[bytes]) -> NDArray[np.uint32]:
    """The checksums in TFRecord frames: CRC-32C, rotated and offset; little-endian, one for each content."""
    crcs = np.fromiter(map(google_crc32c.value, contents), "<u4")
    return ((crcs >> 15 | crcs << 17) + CRC_MASK).astype("<u4")


def _feature_entry(name: str, values: NDArray[np.generic]) -> Columns:
    """One entry of the map Features.feature: field 1 = {key: name, value: Feature}."""
    if np.issubdtype(values.dtype, np.floating):
        floats = np.ascontiguousarray(values, dtype="<f4").view(np.uint8)
        kind, packed = FLOAT_LIST, Columns([floats], [None], np.array([floats.shape[1]]))
    else:
        kind, packed = INT64_LIST, _varints(name, values)
    feature = _field(kind, _field(1, packed))
    return _field(1, _field(1, _constant(name.encode())) + _field(2, feature))


def _field(number: int, content: Columns) -> Columns:
    """A length-delimited field: tag, size, content."""
    sizes = content.sizes[:, None]
    return _joined([_constant(bytes([number << 3 | 2])), _varints("size", sizes), content])


def _joined(parts: list[Columns]) -> Columns:
    joined = parts[0]
    for part in parts[1:]:
        joined += part
    return joined


def _constant(content: bytes) -> Columns:
    return Columns([np.frombuffer(content, np.uint8)[None]], [None], np.array([len(content)]))


def _varints(name: str, values: NDArray[np.generic]) -> Columns:
    """Integers [N, k] in groups of seven bits, lowest first; the top bit says that more follow."""
    numbers = values.astype(np.int64)
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if lowest < 0 or highest > LARGEST_INTEGER:
        raise ValueError(f"{name} holds {lowest if lowest < 0 else highest}; records take 0..{LARGEST_INTEGER}")
    rows, count = numbers.shape
    if highest < 128:
        return Columns([numbers.astype(np.uint8)], [None], np.array([count]))
    words = numbers.astype("<u4")  # each number's four bytes are made within one integer, then seen as bytes
    kept = 1 + (words > 0x7F) * _BYTE_2 + (words > 0x3FFF) * _BYTE_3 + (words > 0x1FFFFF) * _BYTE_4
    places = words & 0x7F | (words & 0x3F80) << 1 | (words & 0x1FC000) << 2 | (words & 0xFE00000) << 3
    places |= kept >> 1 & 0x808080  # the top bit of every byte that another one follows
    flat = kept.view(bool).reshape(rows, -1)
    return Columns([places.view(np.uint8).reshape(rows, -1)], [flat], np.count_nonzero(flat, axis=1))


def _compressed(columns: Columns, rows: int) -> NDArray[np.uint8]:
    """The kept bytes of all rows, one row after the other."""
    width = sum(place.shape[1] for place in columns.places)
    places, kept = np.empty((rows, width), np.uint8), np.ones((rows, width), bool)
    first = 0
    for place, mask in zip(columns.places, columns.kept):
        last = first + place.shape[1]
        places[:, first:last] = place
        if mask is not None:
            kept[:, first:last] = mask
        first = last
    return places[kept]


def _length_crcs(sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    distinct, places = np.unique(sizes, return_inverse=True)
    crcs = masked_crcs(size.to_bytes(8, "little") for size in distinct.tolist())
    return crcs[places].view(np.uint8).reshape(len(sizes), 4)


def _with_record_crcs(framed: NDArray[np.uint8], sizes: NDArray[np.int64]) -> bytes:
    ends = np.cumsum(sizes + FRAME_HEAD + FRAME_TAIL) - FRAME_TAIL  # where each record's CRC goes
    content = framed.tobytes()
    crcs = masked_crcs(content[start:end] for start, end in zip((ends - sizes).tolist(), ends.tolist()))
    framed[ends[:, None] + np.arange(FRAME_TAIL)] = crcs.view(np.uint8).reshape(-1, FRAME_TAIL)
    return framed.tobytes()
