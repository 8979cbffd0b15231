"""Scalars for TensorBoard, written without the tensorboard package."""

from collections.abc import Mapping
from pathlib import Path


class ScalarEvents:
    """An event file in `folder`; TensorBoard shows each name as a curve."""

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
