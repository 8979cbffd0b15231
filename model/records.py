"""The data contract between `prepare` and training: what a record holds, and reading records in any order.

A set of records is a folder of TFRecord files of tf.train.Example messages, as google-research/bert's
create_pretraining_data writes them; files made by that program can be read, too.
"""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.example_encoding import FRAME_HEAD, FRAME_TAIL, encode_examples, masked_crcs

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
LENGTHS_FEATURE, PREDICTIONS_FEATURE = "input_ids", "masked_lm_positions"
SAMPLED_RECORDS = 32  # of every file, checked when a set is opened

__all__ = ["FEATURES", "Records", "encode_examples", "open_records", "part_name"]


def part_name(number: int, total: int) -> str:
    """File name of a part, from 0: part-00000-of-00004.tfrecord."""
    return f"part-{number:05}-of-{total:05}.tfrecord"


def open_records(folder: Path, max_seq_length: int | None = None, vocab_size: int | None = None) -> "Records":
    """The records of a folder, checked against what a stage needs.

    Raises FileNotFoundError when there is no such folder or no *.tfrecord file in it, ValueError for records
    of another length, ids beyond the vocabulary, and files that are cut or are no TFRecord files.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of records; run "bertline prepare"')
    paths = sorted(folder.glob("*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f'{folder}: no *.tfrecord file in it; run "bertline prepare"')
    return Records(paths, max_seq_length, vocab_size)


class Records:
    """Records of several files, numbered through from 0 in the order of the files."""

    def __init__(self, paths: Sequence[Path], max_seq_length: int | None = None, vocab_size: int | None = None) -> None:
        """Errors are those of `open_records`."""
        self._vocab_size = vocab_size
        self._files = [_RecordFile(path) for path in paths]
        self._first = np.cumsum([0, *(len(file) for file in self._files)])  # [files + 1]
        if not len(self):
            raise ValueError(f'{paths[0]}: no record in it or in the files beside it; run "bertline prepare" again')
        self.max_seq_length, self.max_predictions_per_seq = self._widths(max_seq_length)
        for first, last in zip(self._first[:-1].tolist(), self._first[1:].tolist()):
            if first < last:
                self.batch(np.arange(first, min(last, first + SAMPLED_RECORDS)))

    def __len__(self) -> int:
        return int(self._first[-1])

    def batch(self, indices: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """The records with these numbers, in this order, checksums verified.

        Arrays int32 or float32 as in FEATURES, [B, W] and [B, P]; next_sentence_labels is [B].
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {indices.min()} or {indices.max()} is not among the {len(self)} records")
        files = np.searchsorted(self._first, indices, side="right") - 1
        positions = (indices - self._first[files]).tolist()
        messages = [self._files[file].read(position) for file, position in zip(files.tolist(), positions)]
        arrays = self._parsed(messages, files)
        self._check_ids(arrays["input_ids"], files)
        self._check_ids(arrays["masked_lm_ids"], files)
        arrays["next_sentence_labels"] = arrays["next_sentence_labels"].reshape(-1)
        return arrays

    def _widths(self, wanted: int | None) -> tuple[int, int]:
        """max_seq_length and max_predictions_per_seq, which must be the same in all files."""
        expected: tuple[int, int] | None = None
        for file in self._files:
            if len(file):
                widths = file.widths()
                if wanted is not None and widths[0] != wanted:
                    raise ValueError(
                        f"{file.path}: max_seq_length is {widths[0]}, this stage needs {wanted}; "
                        f'run "bertline prepare --max_seq_length {wanted}"'
                    )
                if expected is not None and widths != expected:
                    raise ValueError(
                        f"{file.path}: (max_seq_length, max_predictions_per_seq) is {widths}, but {expected} "
                        "in the files before it; keep records of different lengths in different folders"
                    )
                expected = widths
        assert expected is not None  # an empty set was refused
        return expected

    def _parsed(self, messages: list[bytes], files: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        import tensorflow as tf

        widths = {
            "max_seq_length": self.max_seq_length,
            "max_predictions_per_seq": self.max_predictions_per_seq,
            "one": 1,
        }
        specification = {
            name: tf.io.FixedLenFeature([widths[width]], tf.float32 if dtype is np.float32 else tf.int64)
            for name, (dtype, width) in FEATURES.items()
        }
        try:
            with tf.device("CPU"):
                tensors = tf.io.parse_example(messages, specification)
        except tf.errors.InvalidArgumentError as error:
            named = ", ".join(str(self._files[file].path) for file in np.unique(files).tolist())
            raise ValueError(
                f"{named}: a record is not one of pretraining with max_seq_length {self.max_seq_length} and "
                f"max_predictions_per_seq {self.max_predictions_per_seq} ({error.message})"
            ) from error
        return {name: tensors[name].numpy().astype(dtype) for name, (dtype, _) in FEATURES.items()}

    def _check_ids(self, ids: NDArray[np.int32], files: NDArray[np.int64]) -> None:
        if self._vocab_size is None or not ids.size:
            return
        largest = ids.max(axis=1)
        if largest.max() >= self._vocab_size:
            path = self._files[int(files[largest.argmax()])].path
            raise ValueError(
                f"{path}: holds id {largest.max()}, but the vocabulary has {self._vocab_size} entries; "
                "prepare the records with the vocabulary that the model is trained with"
            )


class _RecordFile:
    """One TFRecord file, mapped into memory, with the place of every record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._starts = self._record_starts(size)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, position: int) -> bytes:
        """The message of a record. Raises ValueError when its checksum does not match."""
        start = int(self._starts[position])
        (length,) = struct.unpack_from("<Q", self._content, start)
        end = start + FRAME_HEAD + length
        message = self._content[start + FRAME_HEAD : end]
        if struct.unpack_from("<I", self._content, end)[0] != masked_crcs([message])[0]:
            raise ValueError(
                f"{self.path}: record {position} at byte {start} is damaged (checksum); make the file again"
            )
        return message

    def widths(self) -> tuple[int, int]:
        """max_seq_length and max_predictions_per_seq of the first record."""
        import tensorflow as tf

        specification = {
            name: tf.io.VarLenFeature(tf.float32 if dtype is np.float32 else tf.int64)
            for name, (dtype, _) in FEATURES.items()
        }
        try:
            tensors = tf.io.parse_example([self.read(0)], specification)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"{self.path}: its records are not of pretraining ({error.message})") from error
        widths = {name: int(tensor.dense_shape[1]) for name, tensor in tensors.items()}
        missing = [name for name, width in widths.items() if not width]
        if missing:
            raise ValueError(f"{self.path}: records without {', '.join(missing)}; not made for pretraining")
        return widths[LENGTHS_FEATURE], widths[PREDICTIONS_FEATURE]

    def _record_starts(self, size: int) -> NDArray[np.int64]:
        starts: list[int] = []
        start, unpack = 0, struct.Struct("<QI").unpack_from
        while start + FRAME_HEAD <= size:
            length, length_crc = unpack(self._content, start)
            # Only a damaged or foreign file has an impossible length; no need to checksum the others here.
            following = start + FRAME_HEAD + length + FRAME_TAIL
            if (not starts or following > size) and masked_crcs([self._content[start : start + 8]])[0] != length_crc:
                raise ValueError(f"{self.path}: no TFRecord file, or damaged at byte {start}; make it again")
            if following > size:
                break
            starts.append(start)
            start = following
        if start != size:
            raise ValueError(
                f"{self.path}: cut off after {len(starts)} whole records, {size - start} bytes are left over;"
                " make or copy the file again"
            )
        return np.array(starts, np.int64)
