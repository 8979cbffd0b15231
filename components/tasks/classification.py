"""Files of GLUE-style tasks -> encoded training and development examples, and a checkpoint fine-tuned on them."""

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

if TYPE_CHECKING:
    from bertline.model.finetuning.run import FinetuneConfig


@dataclass(frozen=True)
class Columns:
    """Where a task's file keeps its texts and its label (columns count from 0); all have a header row."""

    names: tuple[str, ...]  # of all columns, as GLUE's header has them; a file of one's own may call them otherwise
    text_a: int
    text_b: int | None
    label: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TaskExample:
    """One row: a sentence or a pair, and its label's text."""

    text_a: str
    text_b: str | None
    label: str


@dataclass(frozen=True)
class TaskData:
    """Encoded sets, each input_ids, input_mask, segment_ids int32 [N, W] and label_ids int32 [N]."""

    train: dict[str, np.ndarray]
    dev: dict[str, np.ndarray]
    labels: list[str]


TASKS = {
    "mrpc": Columns(("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), 3, 4, 0, ("0", "1")),
    "sst2": Columns(("sentence", "label"), 0, None, 1, ("0", "1")),
}


def finetune(
    out: Path, config: "FinetuneConfig", checkpoint: Path, task: str, train: Path, dev: Path, **training: Any
) -> dict[str, int | float]:
    """Fine-tune a checkpoint on a task's training set, and score it on the development set.

    `training` goes to the run of fine-tuning: its work, log_dir and digests.
    """
    from bertline.model.finetuning.run import run

    data = read_task(task, train, dev, checkpoint, config.max_seq_length)
    return run(checkpoint, data.train, data.dev, data.labels, out, config, **training)


def read_task(task: str, train: Path, dev: Path, model: Path, max_seq_length: int) -> TaskData:
    """Both sets of a task, encoded with the vocabulary and the case of the model folder `model`."""
    vocabulary = load_vocabulary(model / "vocab.txt")
    lower = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))["do_lower_case"]
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=lower)
    columns = columns_of(task)
    encoded = [_encode(read_examples(task, file), columns, tokenizer, max_seq_length) for file in (train, dev)]
    return TaskData(encoded[0], encoded[1], list(columns.labels))


def columns_of(task: str) -> Columns:
    """The layout of a known task; ValueError lists the known ones."""
    if task not in TASKS:
        raise ValueError(f'unknown task "{task}"; known: {", ".join(sorted(TASKS))}')
    return TASKS[task]


def read_examples(task: str, file: Path) -> list[TaskExample]:
    """The rows of a task's .tsv or .tsv.gz file; quotes are literal text, as in the original's reader.

    Raises FileNotFoundError, and ValueError for a row of another number of columns, an unknown label, a first row that
    is no header, or no rows.
    """
    columns = columns_of(task)
    examples = [_read_row(task, columns, line, f"{file}:{number}", number == 1) for number, line in _rows(file)][1:]
    if not examples:
        raise ValueError(f"{file}: no examples after the header row")
    return examples


def _read_row(task: str, columns: Columns, line: str, place: str, is_header: bool) -> TaskExample:
    cells = line.split("\t")
    if len(cells) != len(columns.names):
        wanted = f"{len(columns.names)}, tab-separated: {', '.join(columns.names)}"
        raise ValueError(f"{place}: {len(cells)} columns, but {task} has {wanted}")
    label = cells[columns.label].strip()
    if is_header and label in columns.labels:
        raise ValueError(
            f'{place}: an example (label "{label}") where the header row should be; put this line before it, with tabs '
            f"for the commas: {', '.join(columns.names)}"
        )
    if not is_header and label not in columns.labels:
        known, column = ", ".join(columns.labels), columns.label + 1
        raise ValueError(f'{place}: label "{label}" is not one of {known}; is column {column} the label?')
    return TaskExample(cells[columns.text_a], None if columns.text_b is None else cells[columns.text_b], label)


def _rows(file: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of every row, the header among them, but for empty lines after it."""
    if file.parent.is_file():
        raise NotADirectoryError(f"{file.parent}: a file; give the folder that holds the task's train.tsv and dev.tsv")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give the task's train and dev .tsv or .tsv.gz files")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as raw:
        try:
            for number, line in enumerate(io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n"), start=1):
                text = line.rstrip("\r\n")
                if number == 1 or text:
                    yield number, text
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{file}: not a UTF-8 .tsv file ({error})") from error


def _encode(
    examples: list[TaskExample], columns: Columns, tokenizer: WordPieceTokenizer, max_seq_length: int
) -> dict[str, np.ndarray]:
    texts_b = None if columns.text_b is None else [example.text_b or "" for example in examples]
    arrays = encode_pairs(tokenizer, [example.text_a for example in examples], texts_b, max_seq_length)
    label_ids = [columns.labels.index(example.label) for example in examples]
    return {**arrays, "label_ids": np.array(label_ids, np.int32)}
