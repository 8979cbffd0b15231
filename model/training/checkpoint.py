"""Our checkpoint folder <-> arrays and configuration, and the curve of the training so far.

A folder holds `model.safetensors` (float32, named as google-research/bert's variables), `bert_config.json`,
`vocab.txt`, `tokenizer_config.json`, `training_state.json`, and, where training can go on,
`optimizer.safetensors` (Adam slots). Masks and batches are functions of (seed, step), so no generator's
state is needed to go on exactly. The curve, `training_log.jsonl`, has a row of means for every so many steps and one
for every evaluation; TensorBoard's events show the same.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bertline.files import unwritten
from bertline.model.config import BertConfig, read_config_and_extras

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
BERT_CONFIG_FILE = "bert_config.json"
VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer_config.json"
STATE_FILE = "training_state.json"
LOG_FILE = "training_log.jsonl"
HELDOUT = "heldout_"  # begins the names of the values in an evaluation's row
READABLE_AND_WRITABLE = 0o666

Arrays = Mapping[str, np.ndarray]
Row = dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """A model, the vocabulary it reads with, and how far its training went."""

    bert_config: BertConfig
    weights: Arrays  # by variable name
    vocabulary: bytes  # of vocab.txt
    do_lower_case: bool
    state: Mapping[str, Any]  # at least "step": updates done
    slots: Arrays | None = None  # <variable>/adam_m and /adam_v; None where training cannot go on
    config_extras: Mapping[str, Any] = field(default_factory=dict)  # further keys of bert_config.json, kept unread


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint's files into an existing folder; raises OSError when they do not fit."""
    write_arrays(folder / MODEL_FILE, checkpoint.weights)
    if checkpoint.slots is not None:
        write_arrays(folder / OPTIMIZER_FILE, checkpoint.slots)
    _write_json(folder / BERT_CONFIG_FILE, {**checkpoint.config_extras, **checkpoint.bert_config.to_mapping()})
    write_file(folder / VOCABULARY_FILE, checkpoint.vocabulary)
    _write_json(folder / TOKENIZER_FILE, {"do_lower_case": checkpoint.do_lower_case})
    _write_json(folder / STATE_FILE, checkpoint.state)


def read_checkpoint(folder: Path, *, with_slots: bool = False) -> Checkpoint:
    """The checkpoint in a folder, with the Adam slots when asked for.

    Raises FileNotFoundError naming a missing file, ValueError naming a cut or foreign one.
    """
    state = _read_json(folder / STATE_FILE)
    if not isinstance(state.get("step"), int):
        raise ValueError(f'{folder / STATE_FILE}: "step" is missing; this is not a file that training wrote')
    bert_config, extras = read_config_and_extras(_existing(folder / BERT_CONFIG_FILE))
    return Checkpoint(
        bert_config=bert_config,
        weights=read_arrays(folder / MODEL_FILE),
        vocabulary=_existing(folder / VOCABULARY_FILE).read_bytes(),
        do_lower_case=bool(_read_json(folder / TOKENIZER_FILE).get("do_lower_case", True)),
        state=state,
        slots=read_arrays(folder / OPTIMIZER_FILE) if with_slots else None,
        config_extras=extras,
    )


def digest_of(arrays: Arrays) -> str:
    """A digest of names, shapes and values; not one against forgery."""
    digest = 0
    for name in sorted(arrays):
        digest = zlib.crc32(f"{name}{arrays[name].shape}".encode(), digest)
        digest = zlib.crc32(arrays[name].tobytes(), digest)
    return f"{digest:08x}"


def select(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], where: Path) -> dict[str, np.ndarray]:
    """The arrays that `shapes` names; a missing one or another shape is a ValueError, never left random."""
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"{where}: variable {name} is missing; this checkpoint is of another kind of model")
        if arrays[name].shape != shape:
            raise ValueError(
                f"{where}: {name} has shape {list(arrays[name].shape)}, its bert_config.json asks for "
                f"{list(shape)}; take the configuration that belongs to these weights"
            )
    return {name: arrays[name] for name in shapes}


def write_arrays(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file of the arrays; raises OSError when it could not be written whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # The library writes the memory of an array as it lies: a transposed view would come out scrambled.
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        save_file(contiguous, path, metadata)
    except SafetensorError as error:
        size = sum(array.nbytes for array in contiguous.values())
        raise unwritten(path, size, error) from error
    path.chmod(path.parent.stat().st_mode & READABLE_AND_WRITABLE)  # the library lets its owner alone read it


def write_file(path: Path, content: bytes) -> None:
    """A file of these bytes; raises OSError that names it when it could not be written whole."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise unwritten(path, len(content), error.strerror or error) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(_existing(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); take another checkpoint") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected a checkpoint folder with {MODEL_FILE} and its companions")
    return path


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_file(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_existing(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return value


class TrainingLog:
    """Finished rows, and the steps of the row in progress.

    Both are part of a snapshot, so that a resumed run's log is that of an uninterrupted one.
    """

    def __init__(self, steps_a_row: int, rows: Sequence[Row] = (), pending: Sequence[Row] = ()) -> None:
        """`rows` and `pending` are those of an earlier run that goes on."""
        self._steps_a_row = steps_a_row
        self.rows = list(rows)
        self.pending = list(pending)

    def add(self, step: int, metrics: Mapping[str, float], *, last: bool = False) -> Row | None:
        """Note one step; the row that it completes, if any. A row also ends with the `last` step."""
        self.pending.append(dict(metrics))
        if len(self.pending) < self._steps_a_row and not last:
            return None
        # Means over the row's steps, but the learning rate of its last.
        row: Row = {"step": step}
        for name in self.pending[-1]:
            mean = sum(metrics[name] for metrics in self.pending) / len(self.pending)
            row[name] = _round(self.pending[-1][name] if name == "learning_rate" else mean)
        self.rows.append(row)
        self.pending.clear()
        return row

    def add_evaluation(self, step: int, scores: Mapping[str, float]) -> Row:
        """Note the scores of a step's weights on held-out records; the row of them, whose names begin with HELDOUT."""
        row: Row = {"step": step} | {HELDOUT + name: _round(value) for name, value in scores.items()}
        self.rows.append(row)
        return row

    def to_lines(self) -> str:
        """The finished rows as JSON lines."""
        return "".join(json.dumps(row) + "\n" for row in self.rows)


class ScalarEvents:
    """An event file for TensorBoard, which shows each name as a curve; written without the tensorboard package."""

    def __init__(self, folder: Path) -> None:
        """Every start adds a file of its own; TensorBoard joins the files of a folder."""
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(folder))
        # tf.summary.scalar lives in the tensorboard package; this is what it would write.
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        self._metadata.data_class = 1  # DATA_CLASS_SCALAR

    def add(self, row: Mapping[str, float]) -> None:
        """One point of every curve: `row` holds the step and the values by name."""
        import tensorflow as tf

        with self._writer.as_default():
            for name in row.keys() - {"step"}:
                value = tf.constant(row[name], tf.float32)
                tf.summary.write(name, value, step=int(row["step"]), metadata=self._metadata)
        self._writer.flush()


def write_log(folder: Path, lines: str) -> None:
    """The curve so far, beside a checkpoint."""
    write_file(folder / LOG_FILE, lines.encode())


def rows_of(lines: str) -> list[Row]:
    """The rows of JSON lines, of both kinds."""
    return [json.loads(line) for line in lines.splitlines()]


def training_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of means over steps of training."""
    return [row for row in rows if not _is_evaluation(row)]


def evaluations(rows: Sequence[Row]) -> list[Row]:
    """The rows of scores on held-out records."""
    return [row for row in rows if _is_evaluation(row)]


def _is_evaluation(row: Row) -> bool:
    return any(name.startswith(HELDOUT) for name in row)


def _round(value: float) -> float:
    """Seven digits, what a float32 holds."""
    return float(f"{value:.7g}")
