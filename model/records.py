"""The data contract between `prepare` and training: what a record holds, and reading records in any order.

A set of records is a folder of TFRecord files of tf.train.Example messages, in one of three schemas: canonical,
as google-research/bert's create_pretraining_data writes them (files made by that program can be read, too);
compact, the same rows in fewer bytes; unmasked, compact rows that are masked afresh in each epoch when they are read.
Files in subfolders hold shorter rows (length bins), which are filled up with zeros.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.compact_records import (
    MASKED_FEATURES,
    UNMASKED_FEATURES,
    Layout,
    decode_compact,
    encode_compact,
    layout_of,
    widths_of,
)
from bertline.model.config import from_mapping
from bertline.model.example_encoding import encode_examples
from bertline.model.masking import MaskConfig, MaskRules, dynamic_keys, mask, mask_rules
from bertline.model.record_files import RecordFile
from bertline.model.rows import Predictions, Rows, features
from bertline.tokenizer.wordpiece import Vocabulary

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
SCHEMAS = ("canonical", "compact")  # of masked rows; unmasked ones are compact
MASKING_FILE = "masking.json"  # beside unmasked records: how to mask them
SAMPLED_RECORDS = 32  # of every file, checked when a set is opened
ADVICE = 'run "bertline prepare"'


def part_name(number: int, total: int) -> str:
    """File name of a part, from 0: part-00000-of-00004.tfrecord."""
    return f"part-{number:05}-of-{total:05}.tfrecord"


def encode_rows(rows: Rows, predictions: Predictions | None, schema: str, vocab_size: int) -> bytes:
    """The framed records of rows in one of SCHEMAS; without predictions they are unmasked ones."""
    if predictions is None or schema == "compact":
        return encode_compact(rows, predictions, vocab_size)
    return encode_examples(features(rows, predictions))


def write_masking(folder: Path, config: MaskConfig, seed: int, vocabulary: Vocabulary) -> None:
    """Lay beside unmasked records what their readers need: how to mask, and the vocabulary's tokens."""
    content = {"mask": config.__dict__, "seed": seed, "tokens": vocabulary.tokens}
    (folder / MASKING_FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def open_records(folder: Path, max_seq_length: int | None = None, vocab_size: int | None = None) -> "Records":
    """The records of a folder, checked against what a stage needs.

    Raises FileNotFoundError when there is no such folder or no *.tfrecord file in it, ValueError for records
    of another length, ids beyond the vocabulary, and files that are cut or are no TFRecord files.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of records; {ADVICE}")
    paths = sorted(folder.rglob("*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no *.tfrecord file in it; {ADVICE}")
    return Records(paths, max_seq_length, vocab_size, masking=folder / MASKING_FILE)


class Records:
    """Records of several files, numbered through from 0 in the order of the files."""

    def __init__(
        self,
        paths: Sequence[Path],
        max_seq_length: int | None = None,
        vocab_size: int | None = None,
        masking: Path | None = None,
    ) -> None:
        """Errors are those of `open_records`."""
        self._vocab_size = vocab_size
        self._files = [file for file in map(_Part, paths) if len(file)]
        self._first = np.cumsum([0, *(len(file) for file in self._files)])  # [files + 1]
        if not len(self):
            raise ValueError(f"{paths[0]}: no record in it or in the files beside it; {ADVICE} again")
        self.schema = str(self._same("schema", {file.path: file.schema for file in self._files}))
        for folder in {file.path.parent for file in self._files}:
            self._same("max_seq_length", {file.path: file.width for file in self._files if file.path.parent == folder})
        self.max_seq_length = max(file.width for file in self._files)
        if max_seq_length not in (None, self.max_seq_length):
            raise ValueError(
                f"{self._files[0].path}: max_seq_length is {self.max_seq_length}, this stage needs {max_seq_length}; "
                f'run "bertline prepare --max_seq_length {max_seq_length}"'
            )
        self._rules: MaskRules | None = None
        self._seed = 0
        if self.schema == "unmasked":
            self._rules, self._seed = self._masking(masking)
        predictions = int(self._same("max_predictions_per_seq", {file.path: file.predictions for file in self._files}))
        self.max_predictions_per_seq = self._rules.max_predictions if self._rules else predictions
        for first, last in zip(self._first[:-1].tolist(), self._first[1:].tolist()):
            self.batch(np.arange(first, min(last, first + SAMPLED_RECORDS)))

    def __len__(self) -> int:
        return int(self._first[-1])

    def batch(self, indices: NDArray[np.integer], epochs: "int | NDArray[np.integer]" = 0) -> dict[str, NDArray[Any]]:
        """The records with these numbers, in this order, checksums verified.

        Arrays int32 or float32 as in FEATURES, [B, W] and [B, P]; next_sentence_labels is [B]. Unmasked
        records are masked as (their seed, epoch, number) decide; `epochs` is [B] or one for all.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {indices.min()} or {indices.max()} is not among the {len(self)} records")
        epochs = np.broadcast_to(epochs, indices.shape)
        arrays = self._empty(len(indices))
        files = np.searchsorted(self._first, indices, side="right") - 1
        for number in np.unique(files).tolist():
            places = np.flatnonzero(files == number)
            mine = indices[places]
            part = self._files[number].batch(
                mine - self._first[number], self._rules, dynamic_keys(self._seed, epochs[places], mine)
            )
            self._check_ids(part, self._files[number].path)
            for name, values in part.items():
                arrays[name][places, : values.shape[1]] = values
        arrays["next_sentence_labels"] = arrays["next_sentence_labels"].reshape(-1)
        return arrays

    def _empty(self, count: int) -> dict[str, NDArray[Any]]:
        widths = {
            "max_seq_length": self.max_seq_length,
            "max_predictions_per_seq": self.max_predictions_per_seq,
            "one": 1,
        }
        return {name: np.zeros((count, widths[width]), dtype) for name, (dtype, width) in FEATURES.items()}

    def _same(self, name: str, values: dict[Path, Any]) -> Any:
        first, expected = next(iter(values.items()))
        for path, value in values.items():
            if value != expected:
                raise ValueError(
                    f"{path}: {name} is {value}, but {expected} in {first}; keep records of different kinds in "
                    "different folders"
                )
        return expected

    def _masking(self, file: Path | None) -> tuple[MaskRules, int]:
        if file is None or not file.is_file():
            raise FileNotFoundError(
                f"{file or self._files[0].path}: missing, but the records are unmasked and need it; {ADVICE} again"
            )
        content = json.loads(file.read_text(encoding="utf-8"))
        config, vocabulary = from_mapping(MaskConfig, content["mask"]), Vocabulary(tuple(content["tokens"]))
        return mask_rules(config, vocabulary, self.max_seq_length), int(content["seed"])

    def _check_ids(self, arrays: dict[str, NDArray[Any]], path: Path) -> None:
        if self._vocab_size is None:
            return
        largest = max(int(arrays[name].max(initial=0)) for name in ("input_ids", "masked_lm_ids"))
        if largest >= self._vocab_size:
            raise ValueError(
                f"{path}: holds id {largest}, but the vocabulary has {self._vocab_size} entries; "
                "prepare the records with the vocabulary that the model is trained with"
            )


class _Part:
    """One file of records of one schema and one width."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RecordFile(path)
        self.schema, self.width, self.predictions = "", 0, 0
        self._layout: Layout | None = None
        if len(self._file):
            self._recognise(_example(self._file.messages(np.array([0]))[0], path))

    def __len__(self) -> int:
        return len(self._file)

    def batch(
        self, positions: NDArray[np.int64], rules: MaskRules | None, keys: NDArray[np.uint64]
    ) -> dict[str, NDArray[Any]]:
        """The seven features of these records, each of two dimensions."""
        if self._layout is None:
            return self._parsed(self._file.messages(positions))
        rows, predictions = decode_compact(self._file.frames(positions, self._layout.frame_bytes), self._layout)
        if predictions is None:
            assert rules is not None  # unmasked records are not opened without
            rows, predictions, _ = mask(rows, keys, rules)
        return features(rows, predictions)

    def _recognise(self, example: dict[str, Any]) -> None:
        if set(FEATURES) <= set(example):
            self.schema = "canonical"
            self.width, self.predictions = len(example["input_ids"]), len(example["masked_lm_positions"])
        elif set(example) in (MASKED_FEATURES, UNMASKED_FEATURES):
            self.schema = "compact" if set(example) == MASKED_FEATURES else "unmasked"
            sizes = {name: len(value) for name, value in example.items()}
            self.width, self.predictions = widths_of(sizes, example["shape"])
            self._layout = layout_of(sizes)
        else:
            found = ", ".join(sorted(example)) or "none"
            raise ValueError(f"{self.path}: its records are not of pretraining (features: {found}); {ADVICE}")

    def _parsed(self, messages: list[bytes]) -> dict[str, NDArray[Any]]:
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
                f"{self.path}: a record is not one of pretraining with max_seq_length {self.width} and "
                f"max_predictions_per_seq {self.predictions} ({error.message})"
            ) from error
        return {name: tensors[name].numpy().astype(dtype) for name, (dtype, _) in FEATURES.items()}


def _example(message: bytes, path: Path) -> dict[str, Any]:
    """Feature -> its integers, floats, or its first byte string."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(message)
    except DecodeError as error:
        raise ValueError(f"{path}: its records are not of pretraining ({error})") from error
    values = {}
    for name, feature in example.features.feature.items():
        content = getattr(feature, feature.WhichOneof("kind") or "int64_list").value
        values[name] = content[0] if feature.HasField("bytes_list") and content else content
    return values
