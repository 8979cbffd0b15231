"""`bertline.read_records`: the rows of training records, by number, for whoever looks at them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.masking import MASKING_FILE
from bertline.model.records.reader import Records, list_record_files
from bertline.model.records.rows import ADVICE
from bertline.model.training.backends.choice import keep_quiet, use_backend
from bertline.settings import whole_number
from bertline.tokenizer.wordpiece import Vocabulary

ROWS_AT_ONCE = 256  # read by an iteration

Row = dict[str, NDArray[Any]]


class HasVocabulary(Protocol):
    """What tells pieces from ids: a `bertline.Tokenizer`."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its pieces."""


def read_records(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, epoch: int = 0
) -> "RecordSequence":
    """The rows of a folder of records, of a .tfrecord file, or of several; of whatever schema.

    Records without masks (masking=dynamic) are masked as in the epoch of that number. Raises FileNotFoundError for a
    missing path and a folder without .tfrecord files, ValueError for files that are cut, or of another kind, TypeError
    for an epoch that is no whole number.
    """
    whole_number("epoch", epoch, 0)
    if isinstance(path, str | os.PathLike):
        place = Path(path).expanduser()
        files = list_record_files(place) if place.is_dir() else [place]
        folder = place if place.is_dir() else place.parent
    else:
        files = [Path(file).expanduser() for file in path]
        place = folder = files[0].parent if files else Path()
    _require_files(files)
    keep_quiet()
    use_backend("")  # TensorFlow reads tf.train.Examples
    return RecordSequence(Records(files, masking=folder / MASKING_FILE), place, epoch)


def _require_files(files: Sequence[Path]) -> None:
    if not files:
        raise ValueError(f"no file of records; give a folder or .tfrecord files, or {ADVICE}")
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such folder or file of records; {ADVICE}")


class RecordSequence:
    """Rows of training records: `records[7]` is one, `records[:32]` a batch of them, and `for row in records` all.

    A row is a dict of NumPy arrays, W = max_seq_length wide, with P = max_predictions_per_seq predictions at most:

    - input_ids int32 [W]: [CLS] A [SEP] B [SEP], some tokens masked, then zeros
    - input_mask int32 [W]: 1 for tokens, 0 for padding
    - segment_ids int32 [W]: 1 for B and its [SEP]
    - masked_lm_positions int32 [P]: where tokens are to be predicted, ascending, then zeros
    - masked_lm_ids int32 [P]: the tokens that stood there
    - masked_lm_weights float32 [P]: 1.0 for predictions, 0.0 for filling
    - next_sentence_labels int32 []: 1 when B is a random text

    A slice, or an array of numbers, gives the same arrays with N rows: [N, W], [N, P], [N].
    """

    def __init__(self, records: Records, place: Path, epoch: int = 0) -> None:
        """`place` is shown; `epoch` decides the masks of records without."""
        self._records, self._place, self._epoch = records, place, epoch

    @property
    def schema(self) -> str:
        """How the rows are stored: canonical (as google-research/bert's), compact, or unmasked."""
        return self._records.schema

    @property
    def max_seq_length(self) -> int:
        """W, the width of the rows."""
        return self._records.max_seq_length

    @property
    def max_predictions_per_seq(self) -> int:
        """P, the most predictions of a row."""
        return self._records.max_predictions_per_seq

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: int | np.integer | slice | Sequence[int] | NDArray[np.integer]) -> Row:
        """A row, or the rows of a slice or of some numbers; negative numbers count from the end.

        Raises IndexError for a number beyond the last, TypeError for other keys.
        """
        if isinstance(key, slice):
            return self._records.batch(np.arange(len(self))[key], self._epoch)
        if not isinstance(key, int | np.integer):
            numbers = np.asarray(key)
            if numbers.ndim != 1 or (len(numbers) and not np.issubdtype(numbers.dtype, np.integer)):
                raise TypeError(f"records are found by a number, a slice or a list of numbers, not by {key!r}")
            return self._records.batch(self._from_the_start(numbers.astype(np.int64)), self._epoch)
        rows = self._records.batch(self._from_the_start(np.array([key], np.int64)), self._epoch)
        return {name: values[0, ...] for name, values in rows.items()}

    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), ROWS_AT_ONCE):
            rows = self[first : first + ROWS_AT_ONCE]
            for number in range(len(rows["input_ids"])):
                yield {name: values[number, ...] for name, values in rows.items()}

    def text(self, number: int, tokenizer: HasVocabulary) -> str:
        """Row `number` to read: its pieces, without padding, and behind each that is to be predicted what stood there.

        "[CLS] snow [MASK]{lies} deep . [SEP] it melts . [SEP]": the vocabulary must be that of the records, or else
        ValueError, where it is smaller. IndexError for a number beyond the last, TypeError for what is no number.
        """
        number = whole_number("number", number)
        row, tokens = self[number], tokenizer.vocabulary.tokens
        ids = row["input_ids"][row["input_mask"] == 1]
        largest = int(max(ids.max(initial=0), row["masked_lm_ids"].max(initial=0)))
        if largest >= len(tokens):
            raise ValueError(
                f"the row holds id {largest}, the vocabulary {len(tokens)} pieces; take that of the records"
            )
        pieces = [tokens[piece] for piece in ids.tolist()]
        wanted = row["masked_lm_weights"] > 0
        for place, piece in zip(row["masked_lm_positions"][wanted].tolist(), row["masked_lm_ids"][wanted].tolist()):
            pieces[place] += f"{{{tokens[piece]}}}"
        return " ".join(pieces)

    def __repr__(self) -> str:
        return (
            f"<RecordSequence {self._place}: {len(self):,} rows of {self.max_seq_length} tokens, "
            f"{self.max_predictions_per_seq} predictions at most, {self.schema}>"
        )

    def _from_the_start(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        counted = np.where(numbers < 0, numbers + len(self), numbers)
        wrong = numbers[(counted < 0) | (counted >= len(self))]
        if len(wrong):
            raise IndexError(f"there is no record {wrong[0]}; there are {len(self)}, numbered from 0")
        return counted
