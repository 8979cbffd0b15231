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
    "mrpc": Columns(text_a=3, text_b=4, label=0, labels=("0", "1")),  # Quality, two ids, two strings
    "sst2": Columns(text_a=0, text_b=None, label=1, labels=("0", "1")),  # sentence, label
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

    Raises FileNotFoundError, and ValueError for a row of another shape, an unknown label or no rows.
    """
    columns = columns_of(task)
    wanted = max(columns.text_a, columns.text_b or 0, columns.label) + 1
    examples = []
    for number, line in _rows(file):
        cells = line.split("\t")
        if len(cells) < wanted:
            raise ValueError(f"{file}:{number}: {len(cells)} columns, {task} has at least {wanted}, tab-separated")
        label = cells[columns.label].strip()
        if label not in columns.labels:
            raise ValueError(
                f'{file}:{number}: label "{label}" is not one of {", ".join(columns.labels)}; is column '
                f"{columns.label + 1} the label?"
            )
        text_b = None if columns.text_b is None else cells[columns.text_b]
        examples.append(TaskExample(cells[columns.text_a], text_b, label))
    if not examples:
        raise ValueError(f"{file}: no examples after the header row")
    return examples


def _rows(file: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of every row but the header and empty lines."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give the task's train and dev .tsv files")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as raw:
        try:
            for number, line in enumerate(io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n"), start=1):
                text = line.rstrip("\r\n")
                if number > 1 and text:
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
