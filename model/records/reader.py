"""The data contract between `prepare` and training: what a record holds, and reading records in any order.

A set of records is a folder of TFRecord files of tf.train.Example messages, in one of three schemas: canonical,
as google-research/bert's create_pretraining_data writes them (files made by that program can be read, too);
compact, the same rows in fewer bytes; unmasked, compact rows that are masked afresh in each epoch when they are read.
Files in subfolders hold shorter rows (length bins): a batch of one bin is read at its width, others are filled up
with zeros. Which records a step reads is a function of (seed, step), so that resuming needs no reader's state.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.canonical import encode_examples
from bertline.model.records.compact import encode_compact
from bertline.model.records.files import RecordBin, RecordShard, allow_open_files, require_same, width_of_folder
from bertline.model.records.masking import MASKING_FILE, MaskRules, dynamic_keys, read_masking, rules_within
from bertline.model.records.rows import ADVICE, FEATURES, Predictions, Rows, features
from bertline.tokenizer.wordpiece import parse_vocabulary

SCHEMAS = ("canonical", "compact")  # of masked rows; unmasked ones are compact
STATISTICS_FILE = "stats.json"  # beside records that `prepare` made: what they hold
SAMPLED_RECORDS = 32  # of every file, checked when a set is opened; the others are as they are read


def encode_rows(rows: Rows, predictions: Predictions | None, schema: str, vocab_size: int) -> bytes:
    """The framed records of rows in one of SCHEMAS; without predictions they are unmasked ones."""
    if predictions is None or schema == "compact":
        return encode_compact(rows, predictions, vocab_size)
    return encode_examples(features(rows, predictions))


def open_records(folder: Path, max_seq_length: int | None = None, vocab_size: int | None = None) -> "Records":
    """The records of a folder, checked against what a stage needs.

    Raises FileNotFoundError for a missing folder and one without *.tfrecord files, ValueError for records
    of another length, ids beyond the vocabulary, and files that are cut or not TFRecord files.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of records; {ADVICE}")
    return Records(list_record_files(folder), max_seq_length, vocab_size, masking=folder / MASKING_FILE)


def list_record_files(folder: Path) -> list[Path]:
    """The files of a folder of records and of its length bins, in order; FileNotFoundError where there are none."""
    paths = sorted(folder.rglob("*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no *.tfrecord file in it; {ADVICE}")
    return paths


def require_tokenizer(folder: Path, vocabulary: bytes, do_lower_case: bool) -> None:
    """Raises ValueError where `prepare` noted that it made the records with another vocabulary, or of another case."""
    notes = folder / STATISTICS_FILE
    try:
        statistics = json.loads(notes.read_text(encoding="utf-8"))
        noted = statistics["vocabulary"]
        lower = statistics.get("settings", {}).get("do_lower_case", do_lower_case)
    except (FileNotFoundError, KeyError):  # of another program, or an earlier version
        return
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{notes}: damaged ({error}); {ADVICE} again") from error
    if lower != do_lower_case:
        theirs, ours = (str(case).lower() for case in (lower, do_lower_case))
        raise ValueError(
            f"{folder}: its do_lower_case is {theirs}, the model's {ours}; train with --do_lower_case={theirs}, or "
            "prepare records of the model's case"
        )
    if not vocabulary:  # a converted model need not have one
        return
    own = parse_vocabulary(vocabulary, "the model's vocabulary").note()
    if own != noted:
        raise ValueError(
            f"{folder}: made with another vocabulary, of {noted['entries']:,} entries, than the model's, of "
            f"{own['entries']:,}; prepare the records with the vocabulary that the model is trained with"
        )


class BatchShape(NamedTuple):
    """How wide the arrays of a batch are."""

    max_seq_length: int
    max_predictions_per_seq: int


class Records:
    """Records of several files, numbered through from 0 in the order of the files, narrower length bins first."""

    def __init__(
        self,
        paths: Sequence[Path],
        max_seq_length: int | None = None,
        vocab_size: int | None = None,
        masking: Path | None = None,
    ) -> None:
        """Errors are those of `open_records`."""
        self._vocab_size = vocab_size
        allow_open_files(len(paths))
        shards = [shard for shard in map(RecordShard, paths) if len(shard.file)]
        if not shards:
            raise ValueError(f"{paths[0]}: holds no records, nor do the files beside it; {ADVICE} again")
        self.schema = str(require_same("schema", {shard.path: shard.schema for shard in shards}))
        for folder in {shard.path.parent for shard in shards}:
            require_same("max_seq_length", {shard.path: shard.width for shard in shards if shard.path.parent == folder})
        widths = sorted({shard.width for shard in shards})
        self._bins = [RecordBin([shard for shard in shards if shard.width == width]) for width in widths]
        self._first = np.cumsum([0, *map(len, self._bins)])  # [bins + 1]
        # The widest bin may be empty.
        self.max_seq_length = max(self._bins[-1].width, *map(width_of_folder, paths))
        if max_seq_length not in (None, self.max_seq_length):
            raise ValueError(
                f"{shards[0].path}: max_seq_length is {self.max_seq_length}, this stage needs {max_seq_length}; "
                f"give --max_seq_length={self.max_seq_length}, or make records of the other length"
            )
        self._rules: Sequence[MaskRules | None] = [None] * len(self._bins)
        self._seed = 0
        if self.schema == "unmasked":
            file = masking or self._bins[0].path_of(0)
            rules, self._seed = read_masking(file, self.max_seq_length)
            self._rules = [rules_within(rules, width) for width in self.bin_widths]
        predictions = [
            rules.max_predictions if rules else each.predictions for each, rules in zip(self._bins, self._rules)
        ]
        # A batch of a bin may hold records of narrower ones.
        self._predictions = np.maximum.accumulate(predictions).tolist()
        self.max_predictions_per_seq = int(self._predictions[-1])
        for first, each in zip(self._first.tolist(), self._bins):
            for start in each.firsts:
                self.batch(first + np.arange(start, min(len(each), start + SAMPLED_RECORDS)))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def bin_sizes(self) -> tuple[int, ...]:
        """Numbers of records of each length bin, ascending by width; one number for records without bins."""
        return tuple(map(len, self._bins))

    @property
    def bin_widths(self) -> tuple[int, ...]:
        """The length bins that hold records, ascending."""
        return tuple(each.width for each in self._bins)

    def shape_of(self, indices: NDArray[np.integer]) -> BatchShape:
        """The narrowest shape that holds these records: that of the widest bin among them."""
        number = int(np.searchsorted(self._first, np.max(indices), side="right")) - 1
        return BatchShape(self._bins[number].width, self._predictions[number])

    def batch(
        self,
        indices: NDArray[np.integer],
        epochs: "int | NDArray[np.integer]" = 0,
        shape: BatchShape | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The records with these numbers, in this order, checksums verified.

        Arrays int32 or float32 as in FEATURES, [B, W] and [B, P]; next_sentence_labels is [B]. `shape` is what
        `shape_of` says of these records and others, or else as wide as any record. Unmasked records are masked as
        (their seed, epoch, number) decide; `epochs` is [B] or one for all.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {indices.min()} or {indices.max()} is not among the {len(self)} records")
        keys = dynamic_keys(self._seed, np.broadcast_to(epochs, indices.shape), indices)
        arrays = _zeros(len(indices), shape or BatchShape(self.max_seq_length, self.max_predictions_per_seq))
        bins = np.searchsorted(self._first, indices, side="right") - 1
        for number in np.unique(bins).tolist():
            places = np.flatnonzero(bins == number)
            positions = indices[places] - self._first[number]
            of_bin = self._bins[number].batch(positions, self._rules[number], keys[places])
            self._require_known_ids(of_bin, self._bins[number], positions)
            for name, values in of_bin.items():
                arrays[name][places, : values.shape[1]] = values
        arrays["next_sentence_labels"] = arrays["next_sentence_labels"].reshape(-1)
        return arrays

    def _require_known_ids(
        self, arrays: dict[str, NDArray[Any]], its_bin: RecordBin, positions: NDArray[np.int64]
    ) -> None:
        if self._vocab_size is None:
            return
        for name in ("input_ids", "masked_lm_ids"):
            largest = int(arrays[name].max(initial=0))
            if largest >= self._vocab_size:
                row = int(np.argmax(arrays[name].max(axis=1)))
                raise ValueError(
                    f"{its_bin.path_of(positions[row])}: holds id {largest}, but the vocabulary has "
                    f"{self._vocab_size} entries; prepare the records with the vocabulary that the model is trained "
                    "with"
                )


def _zeros(count: int, shape: BatchShape) -> dict[str, NDArray[Any]]:
    widths = {**shape._asdict(), "one": 1}
    return {name: np.zeros((count, widths[width]), dtype) for name, (dtype, width) in FEATURES.items()}


def training_batch(
    records: Records, batch_size: int, seed: int, step: int, host: int = 0, hosts: int = 1
) -> dict[str, NDArray[Any]]:
    """The batch of a step as `Records.batch` has it, or a host's share of its rows.

    It is as wide as the widest length bin among its examples, on all hosts; unmasked records get other masks in
    each epoch.
    """
    indices = batch_indices(records.bin_sizes, batch_size, seed, step)
    epochs = batch_epochs(len(records), batch_size, step)
    share = host_share(batch_size, host, hosts)
    return records.batch(indices[share], epochs[share], records.shape_of(indices))


def batch_indices(bin_sizes: int | Sequence[int], batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Indices of the examples of batch number `step`, int64 [batch_size].

    Epoch after epoch, every example comes once in an order of (seed, epoch); a batch may straddle epochs,
    so that no example is left out. `bin_sizes` is the number of examples or, ascending by width, of those of each
    length bin, which are numbered through. Then batches are of one bin each, bins mixed, but for what is left over:
    of each bin fewer than a batch, put together by width. An epoch has fewer such batches than bins, and one that
    straddles.
    """
    sizes = (bin_sizes,) if isinstance(bin_sizes, int) else tuple(bin_sizes)
    num_examples = sum(sizes)
    if num_examples < 1:
        raise ValueError("no examples to draw batches from; prepare records with some text in them")
    epochs, places = np.divmod(_places(batch_size, step), num_examples)
    batch = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        batch[here] = _epoch_order(sizes, batch_size, seed, epoch)[places[here]]
    return batch


def batch_epochs(num_examples: int, batch_size: int, step: int) -> NDArray[np.int64]:
    """The epoch, from 0, in which each example of batch number `step` comes, int64 [batch_size]."""
    return _places(batch_size, step) // num_examples


def host_share(batch_size: int, host: int, hosts: int) -> slice:
    """The rows of a batch that host number `host`, from 0, of `hosts` reads; together, in order, they are the batch.

    Raises ValueError for a batch that hosts cannot share equally, and for a host's number out of range.
    """
    if batch_size % hosts:
        raise ValueError(f"a batch of {batch_size} cannot be shared by {hosts} hosts; give a multiple of {hosts}")
    if not 0 <= host < hosts:
        raise ValueError(f"host is {host}, but the {hosts} hosts are numbered from 0")
    rows = batch_size // hosts
    return slice(host * rows, (host + 1) * rows)


def _places(batch_size: int, step: int) -> NDArray[np.int64]:
    return np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)


@functools.lru_cache(maxsize=2)  # the current epoch and, in a straddling batch, the next
def _epoch_order(bin_sizes: tuple[int, ...], batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of all examples; with bins, one whose batches are of one bin each."""
    if len(bin_sizes) == 1:
        return np.random.default_rng((seed, epoch)).permutation(bin_sizes[0])
    total = sum(bin_sizes)
    head = min(total, -epoch * total % batch_size)  # completes the batch that began in the epoch before
    tail = (total - head) % batch_size  # begins the batch that the next epoch completes
    whole, rest = _cut_into_batches(bin_sizes, batch_size, seed, epoch, head + tail)
    # From the wide end: what straddles epochs is then seldom computed wider than it is.
    straddling = rest[len(rest) - head - tail :]
    batches = np.concatenate([*whole, rest[: len(rest) - head - tail]]).reshape(-1, batch_size)
    mixed = np.random.default_rng((seed, epoch, len(bin_sizes))).permutation(batches)
    return np.concatenate([straddling[:head], mixed.reshape(-1), straddling[head:]])


def _cut_into_batches(
    bin_sizes: tuple[int, ...], batch_size: int, seed: int, epoch: int, least_rest: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Each bin's examples in a random order as far as they make whole batches, and all that is left, by width."""
    counts = [size // batch_size for size in bin_sizes]
    if sum(bin_sizes) - batch_size * sum(counts) < least_rest:
        widest = max(number for number, count in enumerate(counts) if count)
        counts[widest] -= 1
    whole, rest = [], []
    first = 0
    for number, size in enumerate(bin_sizes):
        order = first + np.random.default_rng((seed, epoch, number)).permutation(size)
        whole.append(order[: counts[number] * batch_size])
        rest.append(order[counts[number] * batch_size :])
        first += size
    return whole, np.concatenate(rest)
