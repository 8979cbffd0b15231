"""The variables of a TF1 checkpoint's files <-> arrays by name, through TensorFlow's own reader and writer."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # of a checkpoint that tf.train.Checkpoint of TensorFlow 2 wrote
PATTERN_LETTERS = frozenset("*?[\\")  # which TensorFlow takes for a pattern in the name of a checkpoint
AGAIN = "copy or download the checkpoint's files again"


@dataclass(frozen=True)
class Variables:
    """The variables of a checkpoint; their values are read one by one."""

    prefix: Path
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]  # float32, int64, string, ...
    reader: Any  # tf.train.load_checkpoint's

    def read(self, name: str) -> np.ndarray:
        """A variable's value; ValueError, naming the files, when they are cut or changed (by their checksums)."""
        with _explain_damage(self.prefix):
            return np.asarray(self.reader.get_tensor(name))


@contextmanager
def open_variables(prefix: Path) -> Iterator[Variables]:
    """The variables of the checkpoint of this name; ValueError for files that are cut, changed or foreign."""
    import tensorflow as tf

    with _name_plainly(prefix) as plain:
        with _explain_damage(prefix):
            reader = tf.train.load_checkpoint(str(plain))
            shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
            types = {name: kind.name for name, kind in reader.get_variable_to_dtype_map().items()}
        if OBJECT_GRAPH in shapes:
            raise ValueError(
                f"{prefix}: a checkpoint of objects, as TensorFlow 2 saves them; only TF1 checkpoints, whose "
                "variables have names, are read"
            )
        yield Variables(prefix, shapes, types, reader)


def write_variables(prefix: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write <prefix>.index and <prefix>.data-00000-of-00001, byte for byte as TensorFlow 1.15's saver does.

    Raises OSError when they could not be written.
    """
    import tensorflow as tf

    names = sorted(arrays)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),  # each is whole
            tensors=[arrays[name] for name in names],
        )
    except tf.errors.OpError as error:
        size = sum(array.nbytes for array in arrays.values())
        raise OSError(f"{prefix}: could not write {size:,} bytes ({error.message}); is the disk full?") from error


@contextmanager
def _explain_damage(prefix: Path) -> Iterator[None]:
    """TensorFlow's errors as ValueErrors that name the checkpoint."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, IndexError) as error:  # the latter where data are cut
        reason = getattr(error, "message", str(error))
        raise ValueError(f"{prefix}: not a whole TF1 checkpoint ({reason}); {AGAIN}") from error


@contextmanager
def _name_plainly(prefix: Path) -> Iterator[Path]:
    """The checkpoint under a name that TensorFlow does not take for a pattern."""
    if not PATTERN_LETTERS & set(str(prefix)):
        yield prefix
        return
    with tempfile.TemporaryDirectory(prefix="bertline-") as folder:
        for file in prefix.parent.resolve().iterdir():
            if file.name.startswith(f"{prefix.name}."):
                (Path(folder) / f"model{file.name.removeprefix(prefix.name)}").symlink_to(file)
        yield Path(folder) / "model"
