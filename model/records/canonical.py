"""The canonical record: a tf.train.Example of seven features in a TFRecord frame, for whole blocks of rows at once.

The bytes are those of `Example.SerializeToString(deterministic=True)` in frames as tf.io.TFRecordWriter
writes them; building every record as a message of its own takes fifty times as long.
https://protobuf.dev/programming-guides/encoding and tensorflow/core/example/example.proto
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from bertline.model.records.rows import FEATURES
from bertline.tokenizer.compiled import compiled

FLOAT_LIST, INT64_LIST = 2, 3  # field numbers in message Feature
LARGEST_INTEGER = (1 << 28) - 1  # four bytes of seven bits
CRC_MASK = np.uint32(0xA282EAD8)  # tensorflow/core/lib/hash/crc32c.h
FRAME_HEAD, FRAME_TAIL = 12, 4  # length and its CRC before a record, the record's CRC after it
LENGTH_DELIMITED = 2  # wire type


@dataclass(frozen=True)
class Feature:
    """One feature of N examples: its values, and the sizes in bytes of the messages around them, each [N]."""

    name: bytes
    kind: int  # FLOAT_LIST or INT64_LIST
    values: NDArray[np.int32] | NDArray[np.uint8]  # [N, k]; floats as their bytes
    packed: NDArray[np.int64]  # the values
    values_list: NDArray[np.int64]  # Int64List or FloatList: field 1 = the values
    feature: NDArray[np.int64]  # Feature: field `kind` = the list
    entry: NDArray[np.int64]  # an entry of the map Features.feature: field 1 = name, field 2 = Feature


def encode_examples(features: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The framed records of N examples, each of whose features is a row of an [N, k] array.

    Integer arrays become Int64Lists, floating ones FloatLists. Raises ValueError for integers outside
    0..LARGEST_INTEGER, which no id, position or label is.
    """
    entries = [_encode_feature(name, np.asarray(features[name])) for name in sorted(features)]
    content = sum((_field_size(each.entry) for each in entries), np.zeros(len(entries[0].values), np.int64))
    messages = _field_size(content)
    ends = np.cumsum(messages + FRAME_HEAD + FRAME_TAIL)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    places = ends - messages - FRAME_HEAD - FRAME_TAIL  # where the next byte of each record goes
    _write_heads(out, places, messages, _crcs_of_lengths(messages), content)
    for each in entries:
        name = np.frombuffer(each.name, np.uint8)
        sizes = each.entry, each.feature, each.values_list, each.packed
        _write_feature(out, places, name, each.kind, each.values, sizes)
    return write_record_crcs(out, ends - messages - FRAME_TAIL, ends - FRAME_TAIL)


def decode_examples(messages: Sequence[bytes], width: int, predictions: int) -> dict[str, NDArray[Any]]:
    """FEATURES of N records without their frames, each of two dimensions.

    Raises ValueError for a record that is not one of `width` tokens and `predictions` predictions.
    """
    import tensorflow as tf

    widths = {"max_seq_length": width, "max_predictions_per_seq": predictions, "one": 1}
    specification = {
        name: tf.io.FixedLenFeature([widths[size]], tf.float32 if dtype is np.float32 else tf.int64)
        for name, (dtype, size) in FEATURES.items()
    }
    try:
        with tf.device("CPU"):
            tensors = tf.io.parse_example(messages, specification)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"a record is not one of pretraining with max_seq_length {width} and max_predictions_per_seq "
            f"{predictions} ({error.message})"
        ) from error
    return {name: tensors[name].numpy().astype(dtype) for name, (dtype, _) in FEATURES.items()}


def parse_example(message: bytes) -> dict[str, Any]:
    """The features of one tf.train.Example: its integers, its floats, or its first byte string; ValueError for none."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(message)
    except DecodeError as error:
        raise ValueError(f"its records are not of pretraining ({error})") from error
    values = {}
    for name, feature in example.features.feature.items():
        content = getattr(feature, feature.WhichOneof("kind") or "int64_list").value
        values[name] = content[0] if feature.HasField("bytes_list") and content else content
    return values


def masked_crcs(contents: Iterable[bytes]) -> NDArray[np.uint32]:
    """The checksums in TFRecord frames: CRC-32C, rotated and offset; little-endian, one for each content."""
    crcs = np.fromiter(map(google_crc32c.value, contents), "<u4")
    return ((crcs >> 15 | crcs << 17) + CRC_MASK).astype("<u4")


def write_record_crcs(framed: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bytes:
    """The bytes of all frames, with the checksums of framed[starts[i]:ends[i]] written behind each."""
    content = framed.tobytes()
    crcs = masked_crcs([content[start:end] for start, end in zip(starts.tolist(), ends.tolist())])
    framed[ends[:, None] + np.arange(FRAME_TAIL)] = crcs.view(np.uint8).reshape(-1, FRAME_TAIL)
    return framed.tobytes()


def _encode_feature(name: str, values: NDArray[np.generic]) -> Feature:
    if np.issubdtype(values.dtype, np.floating):
        content: NDArray[np.int32] | NDArray[np.uint8] = np.ascontiguousarray(values, dtype="<f4").view(np.uint8)
        kind, packed = FLOAT_LIST, np.full(len(content), content.shape[1])
    else:
        content, kind = _require_small(name, values), INT64_LIST
        packed = _varints_sizes(content)
    values_list = _field_size(packed)
    feature = _field_size(values_list)
    entry = _field_size(np.full(len(packed), len(name))) + _field_size(feature)
    return Feature(name.encode(), kind, content, packed, values_list, feature, entry)


def _require_small(name: str, values: NDArray[np.generic]) -> NDArray[np.int32]:
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))  # type: ignore[call-overload]
    if lowest < 0 or highest > LARGEST_INTEGER:
        raise ValueError(f"{name} holds {lowest if lowest < 0 else highest}; records take 0..{LARGEST_INTEGER}")
    return np.ascontiguousarray(values, np.int32)


def _field_size(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sizes of length-delimited fields: tag (field numbers here are below 16), size, content."""
    return 1 + _varints_sizes(content[:, None]) + content


def _crcs_of_lengths(sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[N, 4], the checksums of the lengths that frames begin with."""
    distinct, places = np.unique(sizes, return_inverse=True)
    crcs = masked_crcs(size.to_bytes(8, "little") for size in distinct.tolist())
    return crcs[places].view(np.uint8).reshape(len(sizes), 4)


@compiled
def _varints_sizes(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """Bytes of each row of integers [N, k] in groups of seven bits."""
    sizes = np.zeros(values.shape[0], np.int64)
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            sizes[row] += 1 + (value >= 1 << 7) + (value >= 1 << 14) + (value >= 1 << 21)
    return sizes


@compiled
def _write_varint(out: NDArray[np.uint8], place: int, value: int) -> int:
    """Groups of seven bits, lowest first; the top bit says that more follow. Returns the place after them."""
    while value >= 128:
        out[place] = value & 127 | 128
        value >>= 7
        place += 1
    out[place] = value
    return place + 1


@compiled
def _write_field(out: NDArray[np.uint8], place: int, number: int, size: int) -> int:
    """Tag and size of a length-delimited field."""
    out[place] = number << 3 | LENGTH_DELIMITED
    return _write_varint(out, place + 1, size)


@compiled
def _write_heads(
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
    messages: NDArray[np.int64],
    crcs: NDArray[np.uint8],
    content: NDArray[np.int64],
) -> None:
    """Frame heads, and the field Example.features around the map's entries; `places` moves on."""
    for row in range(len(places)):
        place, size = places[row], messages[row]
        for byte in range(8):
            out[place + byte] = size & 255
            size >>= 8
        out[place + 8 : place + FRAME_HEAD] = crcs[row]
        places[row] = _write_field(out, place + FRAME_HEAD, 1, content[row])


@compiled
def _write_feature(
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
    name: NDArray[np.uint8],
    kind: int,
    values: NDArray[np.integer],
    sizes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """One entry of the map in every record; `places` moves on."""
    entry, feature, values_list, packed = sizes
    for row in range(len(places)):
        place = _write_field(out, places[row], 1, entry[row])
        place = _write_field(out, place, 1, len(name))
        for byte in name:
            out[place] = byte
            place += 1
        place = _write_field(out, place, 2, feature[row])
        place = _write_field(out, place, kind, values_list[row])
        place = _write_field(out, place, 1, packed[row])
        if kind == FLOAT_LIST:
            for column in range(values.shape[1]):
                out[place] = values[row, column]
                place += 1
        else:
            for column in range(values.shape[1]):
                place = _write_varint(out, place, values[row, column])
        places[row] = place
