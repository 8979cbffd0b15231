r"""Vectors of the tokens of lines -> a file: the original's JSON lines, npz or Parquet; written as the lines come.

npz: `layer_-1` and so on, float32 [vectors, hidden]; `lines` int64 [vectors], the number of each vector's line, from 0;
`offsets` int64 [lines + 1], line i has the vectors offsets[i]:offsets[i + 1]; `tokens` uint8, the tokens of all vectors
in UTF-8, a newline after each: `archive["tokens"].tobytes().decode().split("\n")[:-1]`.

Parquet: a row for each vector, with the columns line (int64), position (int32, within the line), token (string) and
`layer_-1` and so on, lists of float32.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from bertline.files import draft_of
from bertline.model.features.text import json_line

COPIED_AT_ONCE = 1 << 22  # bytes


class FeatureWriter(Protocol):
    """Takes the vectors of lines in their order."""

    def write(
        self, first_line: int, counts: NDArray[np.int64], labels: list[str], vectors: NDArray[np.float32]
    ) -> None:
        """Vectors [sum(counts), layers, hidden] and their tokens, counts[i] of them of line first_line + i."""

    def finish(self) -> None:
        """Write what stands at the file's end, and close it."""


@contextmanager
def open_writer(path: Path, file_format: str, layers: Sequence[int], hidden: int) -> Iterator[FeatureWriter]:
    """A writer to `path`, whose file appears, or takes the place of an older one, when all is written."""
    with draft_of(path) as draft, ExitStack() as stack:
        writer = WRITERS[file_format](draft, layers, hidden, stack)
        yield writer
        writer.finish()


class JsonLines:
    """A line of JSON for each line of text."""

    def __init__(self, path: Path, layers: Sequence[int], _hidden: int, stack: ExitStack) -> None:
        self._file: BinaryIO = stack.enter_context(path.open("wb", buffering=COPIED_AT_ONCE))
        self._layers = layers

    def write(
        self, first_line: int, counts: NDArray[np.int64], labels: list[str], vectors: NDArray[np.float32]
    ) -> None:
        """Write a line of text after the other."""
        begin = 0
        for number, count in enumerate(counts.tolist(), start=first_line):
            end = begin + count
            self._file.write(json_line(number, labels[begin:end], self._layers, vectors[begin:end]))
            begin = end

    def finish(self) -> None:
        """Flush."""
        self._file.close()


class Npz:
    """A zip of arrays, whose lengths are known at the end only: until then each grows in a nameless file beside it."""

    def __init__(self, path: Path, layers: Sequence[int], hidden: int, stack: ExitStack) -> None:
        self._path, self._hidden = path, hidden
        self._layers = [f"layer_{layer}" for layer in layers]
        self._files = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115 (the stack closes it)
            for name in (*self._layers, "lines", "offsets", "tokens")
        }
        self._files["offsets"].write(np.zeros(1, np.int64).tobytes())
        self._vectors = 0

    def write(
        self, first_line: int, counts: NDArray[np.int64], labels: list[str], vectors: NDArray[np.float32]
    ) -> None:
        """Append to every array."""
        for place, name in enumerate(self._layers):
            self._files[name].write(np.ascontiguousarray(vectors[:, place]).data)
        lines = np.repeat(np.arange(first_line, first_line + len(counts)), counts)
        self._files["lines"].write(lines.tobytes())
        self._files["offsets"].write((self._vectors + np.cumsum(counts)).tobytes())
        self._files["tokens"].write("".join(f"{label}\n" for label in labels).encode("utf-8", "surrogatepass"))
        self._vectors += len(labels)

    def finish(self) -> None:
        """Put the arrays together."""
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            for name, file in self._files.items():
                kind = np.dtype({"tokens": np.uint8}.get(name, np.float32 if name in self._layers else np.int64))
                row = (self._hidden,) if name in self._layers else ()
                count = file.tell() // (kind.itemsize * (self._hidden if row else 1))
                head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count, *row)}
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, head)
                    shutil.copyfileobj(file, member, COPIED_AT_ONCE)
                file.close()  # and with that it is gone


class Parquet:
    """A row for each vector; a row group for each window of lines."""

    def __init__(self, path: Path, layers: Sequence[int], hidden: int, stack: ExitStack) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._layers = [f"layer_{layer}" for layer in layers]
        self._hidden = hidden
        of_layers = [pa.field(name, pa.list_(pa.float32(), hidden)) for name in self._layers]
        columns = [("line", pa.int64()), ("position", pa.int32()), ("token", pa.string())]
        self._schema = pa.schema([*map(pa.field, *zip(*columns)), *of_layers])
        self._file: Any = stack.enter_context(
            parquet.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=["token"])
        )

    def write(
        self, first_line: int, counts: NDArray[np.int64], labels: list[str], vectors: NDArray[np.float32]
    ) -> None:
        """Write a row group."""
        import pyarrow as pa

        begins = np.repeat(np.cumsum(counts) - counts, counts)
        columns = [
            pa.array(np.repeat(np.arange(first_line, first_line + len(counts)), counts)),
            pa.array((np.arange(len(labels)) - begins).astype(np.int32)),
            pa.array(labels),
            *(
                pa.FixedSizeListArray.from_arrays(pa.array(vectors[:, place].reshape(-1)), self._hidden)
                for place in range(len(self._layers))
            ),
        ]
        self._file.write_table(pa.table(columns, schema=self._schema))

    def finish(self) -> None:
        """Write the footer."""
        self._file.close()


JSONL = "jsonl"
WRITERS: dict[str, Callable[[Path, Sequence[int], int, ExitStack], FeatureWriter]] = {
    JSONL: JsonLines,
    "npz": Npz,
    "parquet": Parquet,
}
