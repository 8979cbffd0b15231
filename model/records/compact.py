"""The compact record: one row as byte strings in a fixed layout, several times cheaper to write and to read.

Also a tf.train.Example, so that any reader of TFRecords can parse it; every record of a file has the same
size, so that ours finds one by its number. Features, all bytes, little-endian:

    shape      uint16 [6]: tokens in use, tokens of [CLS] A [SEP], predictions, next-sentence label,
               bytes per id, bytes per position
    token_ids  [W] ids of 2 bytes, or of 4 where a vocabulary has more than 65,536 entries
    positions  [P] places of the predictions, of 1 byte up to W = 256, or of 2
    originals  [P] the tokens that stood there
    units      [W / 8] in place of the two: a bit where a word begins; the row is not masked yet
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.canonical import FRAME_HEAD, FRAME_TAIL, masked_crcs, write_record_crcs
from bertline.model.records.rows import Predictions, Rows

MASKED_FEATURES = {"shape", "token_ids", "positions", "originals"}
UNMASKED_FEATURES = {"shape", "token_ids", "units"}
LARGEST_SHORT_ID = 1 << 16
LARGEST_SHORT_POSITION = 1 << 8


class Layout(NamedTuple):
    """Where the features lie in a frame, and the bytes around them."""

    template: NDArray[np.uint8]  # [frame size]
    places: dict[str, tuple[int, int]]  # feature -> first byte, bytes

    @property
    def frame_bytes(self) -> int:
        """Size of a record in its frame."""
        return len(self.template)


def encode_compact(rows: Rows, predictions: Predictions | None, vocab_size: int) -> bytes:
    """The framed records of N rows; without predictions they are unmasked ones."""
    width = rows.token_ids.shape[1]
    id_type = np.dtype("<u2" if vocab_size <= LARGEST_SHORT_ID else "<u4")
    position_type = np.dtype("<u1" if width <= LARGEST_SHORT_POSITION else "<u2")
    counts = np.zeros_like(rows.lengths) if predictions is None else predictions.counts
    sizes = np.full_like(counts, id_type.itemsize), np.full_like(counts, position_type.itemsize)
    shape = np.stack([rows.lengths, rows.first_lengths, counts, rows.labels, *sizes], axis=1)
    columns = {"shape": shape.astype("<u2"), "token_ids": rows.token_ids.astype(id_type)}
    if predictions is None:
        columns["units"] = np.packbits(rows.unit_starts, axis=1, bitorder="little")
    else:
        columns["positions"] = predictions.positions.astype(position_type)
        columns["originals"] = predictions.originals.astype(id_type)
    return _frame({name: column.view(np.uint8) for name, column in columns.items()})


def decode_compact(frames: NDArray[np.uint8], layout: Layout) -> tuple[Rows, Predictions | None]:
    """The rows of frames [N, frame size], and their predictions unless they are unmasked."""

    def column(name: str, dtype: str) -> NDArray[Any]:
        first, size = layout.places[name]
        return np.ascontiguousarray(frames[:, first : first + size]).view(dtype)

    shape = column("shape", "<u2").astype(np.int32)
    id_type = f"<u{shape[0, 4] if len(shape) else 2}"
    token_ids = column("token_ids", id_type).astype(np.int32)
    unit_starts = np.zeros(token_ids.shape, np.bool_)
    if "units" in layout.places:
        bits = np.unpackbits(column("units", "u1"), axis=1, count=token_ids.shape[1], bitorder="little")
        unit_starts = bits.astype(np.bool_)
    rows = Rows(token_ids, shape[:, 0], shape[:, 1], shape[:, 3].astype(np.uint8), unit_starts)
    if "units" in layout.places:
        return rows, None
    positions = column("positions", f"<u{shape[0, 5] if len(shape) else 1}").astype(np.int32)
    return rows, Predictions(positions, column("originals", id_type).astype(np.int32), shape[:, 2])


def layout_of(sizes: Mapping[str, int]) -> Layout:
    """The layout of records whose features have these sizes in bytes."""
    return _layout(tuple(sorted(sizes.items())))


def widths_of(sizes: Mapping[str, int], shape: bytes) -> tuple[int, int]:
    """max_seq_length and max_predictions_per_seq (0: unmasked) of records, by the shape of one of them."""
    values = np.frombuffer(shape, "<u2")
    predictions = sizes.get("originals", 0) // int(values[4])
    return sizes["token_ids"] // int(values[4]), predictions


def _frame(columns: Mapping[str, NDArray[np.uint8]]) -> bytes:
    layout = layout_of({name: column.shape[1] for name, column in columns.items()})
    count = len(columns["shape"])
    frames = np.tile(layout.template, (count, 1))
    for name, column in columns.items():
        first, size = layout.places[name]
        frames[:, first : first + size] = column
    starts = np.arange(count, dtype=np.int64) * layout.frame_bytes + FRAME_HEAD
    return write_record_crcs(frames.reshape(-1), starts, starts + layout.frame_bytes - FRAME_HEAD - FRAME_TAIL)


@lru_cache(maxsize=16)
def _layout(sizes: tuple[tuple[str, int], ...]) -> Layout:
    """tf.train.Example {features {feature {key: name, value {bytes_list {value: ...}}}}}, keys in order."""
    entries, places, position = b"", {}, 0
    for name, size in sizes:
        content = bytes(size)
        value = _field(1, _field(1, content))  # Feature.bytes_list = BytesList.value
        entry = _field(1, _field(1, name.encode()) + _field(2, value))
        position += len(entry)
        places[name] = (position - size, size)  # the content is the last of its entry
        entries += entry
    message = _field(1, entries)
    length = len(message).to_bytes(8, "little")
    head = length + masked_crcs([length]).tobytes()
    before = FRAME_HEAD + len(message) - len(entries)
    template = np.frombuffer(head + message + bytes(FRAME_TAIL), np.uint8)
    return Layout(template, {name: (before + first, size) for name, (first, size) in places.items()})


def _field(number: int, content: bytes) -> bytes:
    size, rest = b"", len(content)
    while rest >= 128:
        size += bytes([rest & 127 | 128])
        rest >>= 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + content
