"""The curve of a training: a row of means for every so many steps and one for every evaluation, and TensorBoard's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bertline.model.training.checkpoint import write_file

Row = dict[str, float]

LOG_FILE = "training_log.jsonl"
HELDOUT = "heldout_"  # begins the names of the values in an evaluation's row


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
