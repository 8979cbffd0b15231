"""The files of one length bin, read as one: their records are gathered, verified and decoded together."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.canonical import FRAME_HEAD, FRAME_TAIL
from bertline.model.records.compact import (
    MASKED_FEATURES,
    UNMASKED_FEATURES,
    Layout,
    decode_compact,
    layout_of,
    widths_of,
)
from bertline.model.records.masking import MaskRules, mask
from bertline.model.records.rows import features
from bertline.model.records.tfrecord import RecordFile, damaged

# Feature -> its type in a batch and its width; integers are stored as int64, as tf.train.Example has it.
FEATURES: dict[str, tuple[type[np.int32] | type[np.float32], str]] = {
    "input_ids": (np.int32, "max_seq_length"),  # [CLS] A [SEP] B [SEP], then zeros
    "input_mask": (np.int32, "max_seq_length"),  # 1 for tokens, 0 for padding
    "segment_ids": (np.int32, "max_seq_length"),  # 0 up to the first [SEP], 1 for B and its [SEP]
    "masked_lm_positions": (np.int32, "max_predictions_per_seq"),  # ascending, then zeros
    "masked_lm_ids": (np.int32, "max_predictions_per_seq"),  # the tokens that stood there
    "masked_lm_weights": (np.float32, "max_predictions_per_seq"),  # 1.0 for predictions, 0.0 for filling
    "next_sentence_labels": (np.int32, "one"),  # 1 when B is a random text
}
ADVICE = 'run "bertline prepare"'


class RecordPart:
    """One file of records of one schema and one width, by the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = RecordFile(path)
        self.schema, self.width, self.predictions = "", 0, 0
        self.layout: Layout | None = None
        if len(self.file):
            self._recognise(_example(self.file, path))

    def _recognise(self, example: dict[str, Any]) -> None:
        if set(FEATURES) <= set(example):
            self.schema = "canonical"
            self.width, self.predictions = len(example["input_ids"]), len(example["masked_lm_positions"])
        elif set(example) in (MASKED_FEATURES, UNMASKED_FEATURES):
            self.schema = "compact" if set(example) == MASKED_FEATURES else "unmasked"
            sizes = {name: len(value) for name, value in example.items()}
            self.width, self.predictions = widths_of(sizes, example["shape"])
            self.layout = layout_of(sizes)
        else:
            found = ", ".join(sorted(example)) or "none"
            raise ValueError(f"{self.path}: its records are not of pretraining (features: {found}); {ADVICE}")


class RecordBin:
    """Records of one schema and one width in several files, numbered through from 0 in their order."""

    def __init__(self, parts: Sequence[RecordPart]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *(len(part.file) for part in parts)])  # [files + 1]
        self.width = parts[0].width
        self.predictions = int(same("max_predictions_per_seq", {part.path: part.predictions for part in parts}))
        frames = {part.path: 0 if part.layout is None else part.layout.frame_bytes for part in parts}
        same("the size of a record in bytes", frames)
        self._layout = parts[0].layout

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def firsts(self) -> list[int]:
        """The number of each file's first record."""
        return self._first[:-1].tolist()

    def path_of(self, position: int) -> Path:
        """The file of a record."""
        return self._parts[self._files_of(np.array([position]))[0]].path

    def batch(
        self, positions: NDArray[np.int64], rules: MaskRules | None, keys: NDArray[np.uint64]
    ) -> dict[str, NDArray[Any]]:
        """The seven features of these records, each of two dimensions; checksums are verified.

        Unmasked records are masked by `rules` as `keys` [N] decide.
        """
        files = self._files_of(positions)
        places = positions - self._first[files]
        if self._layout is None:
            return self._parsed(files, places)
        frames = np.empty((len(positions), self._layout.frame_bytes), np.uint8)
        for number, mine in _grouped(files):
            frames[mine] = self._parts[number].file.equal_frames(places[mine], self._layout.frame_bytes)
        content = frames.tobytes()
        size = self._layout.frame_bytes
        self._verify([content[first : first + size] for first in range(0, len(content), size)], files, places)
        rows, predictions = decode_compact(frames, self._layout)
        if predictions is None:
            assert rules is not None  # unmasked records are not opened without
            rows, predictions, _ = mask(rows, keys, rules)
        return features(rows, predictions)

    def _files_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._first, positions, side="right") - 1

    def _verify(self, frames: Sequence[bytes], files: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        for row in damaged(frames):
            raise self._parts[files[row]].file.damage(int(places[row]))

    def _parsed(self, files: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Canonical records, all by one call, which has a price of its own."""
        frames = np.empty(len(files), object)
        for number, mine in _grouped(files):
            frames[mine] = self._parts[number].file.frames(places[mine])
        self._verify(frames.tolist(), files, places)
        messages = [frame[FRAME_HEAD:-FRAME_TAIL] for frame in frames]
        try:
            return self._parse(messages, self._parts[files[0]].path)
        except ValueError:
            for message, number in zip(messages, files.tolist()):
                self._parse([message], self._parts[number].path)  # raises for the file that holds it
            raise

    def _parse(self, messages: list[bytes], path: Path) -> dict[str, NDArray[Any]]:
        import tensorflow as tf

        widths = {"max_seq_length": self.width, "max_predictions_per_seq": self.predictions, "one": 1}
        specification = {
            name: tf.io.FixedLenFeature([widths[width]], tf.float32 if dtype is np.float32 else tf.int64)
            for name, (dtype, width) in FEATURES.items()
        }
        try:
            with tf.device("CPU"):
                tensors = tf.io.parse_example(messages, specification)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"{path}: a record is not one of pretraining with max_seq_length {self.width} and "
                f"max_predictions_per_seq {self.predictions} ({error.message})"
            ) from error
        return {name: tensors[name].numpy().astype(dtype) for name, (dtype, _) in FEATURES.items()}


def same(name: str, values: Mapping[Path, Any]) -> Any:
    """The one value that all files have; ValueError that names two with different ones."""
    first, expected = next(iter(values.items()))
    for path, value in values.items():
        if value != expected:
            raise ValueError(
                f"{path}: {name} is {value}, but {expected} in {first}; keep records of different kinds in "
                "different folders"
            )
    return expected


def _grouped(numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each number once, and its places."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order], append=-1)) + 1
    for first, end in zip([0, *ends.tolist()], ends.tolist()):
        yield int(numbers[order[first]]), order[first:end]


def _example(file: RecordFile, path: Path) -> dict[str, Any]:
    """The first record's features -> its integers, floats, or its first byte string."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    frames = file.frames(np.array([0]))
    if len(damaged(frames)):
        raise file.damage(0)
    try:
        example = tf.train.Example.FromString(frames[0][FRAME_HEAD:-FRAME_TAIL])
    except DecodeError as error:
        raise ValueError(f"{path}: its records are not of pretraining ({error})") from error
    values = {}
    for name, feature in example.features.feature.items():
        content = getattr(feature, feature.WhichOneof("kind") or "int64_list").value
        values[name] = content[0] if feature.HasField("bytes_list") and content else content
    return values
