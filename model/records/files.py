"""Files of records: their names, and their content mapped into memory, verified when read, of one width read as one."""

import mmap
import resource
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.canonical import FRAME_HEAD, FRAME_TAIL, decode_examples, masked_crcs, parse_example
from bertline.model.records.compact import (
    MASKED_FEATURES,
    UNMASKED_FEATURES,
    Layout,
    decode_compact,
    layout_of,
    widths_of,
)
from bertline.model.records.masking import MaskRules, mask
from bertline.model.records.rows import ADVICE, FEATURES, features

SAMPLED_HEADS = 64  # of records that seem to be of one size
OTHER_OPEN_FILES = 512  # of a process, beside records: libraries, connections
BIN_FOLDER = "length_"


def shard_name(number: int, total: int) -> str:
    """File name of a shard, from 0: part-00000-of-00004.tfrecord."""
    return f"part-{number:05}-of-{total:05}.tfrecord"


def bin_folder(width: int) -> str:
    """Name of the subfolder of a length bin's shards: length_128."""
    return f"{BIN_FOLDER}{width}"


def width_of_folder(path: Path) -> int:
    """The width of the bin whose folder a file lies in, or 0."""
    width = path.parent.name.removeprefix(BIN_FOLDER)
    return int(width) if path.parent.name.startswith(BIN_FOLDER) and width.isdecimal() else 0


class RecordFile:
    """One TFRecord file. Raises ValueError for another kind of file, and for one that is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        equal = self._equal_starts(size)
        self._starts = self._record_starts(size) if equal is None else equal
        self._ends = np.append(self._starts[1:], size)[: len(self._starts)]

    def __len__(self) -> int:
        return len(self._starts)

    def all_frames(self) -> Iterator[bytes]:
        """All records with their frames, in order."""
        for start, end in zip(self._starts.tolist(), self._ends.tolist()):
            yield self._content[start:end]

    def frames(self, positions: NDArray[np.integer]) -> list[bytes]:
        """Records with their frames, which nobody has verified."""
        starts, ends = self._starts[positions].tolist(), self._ends[positions].tolist()
        return [self._content[start:end] for start, end in zip(starts, ends)]

    def equal_frames(self, positions: NDArray[np.integer], frame_bytes: int) -> NDArray[np.uint8]:
        """The same for records of one size, uint8 [N, frame_bytes]; ValueError for one of another."""
        if self._rows.shape[1] == frame_bytes:
            return self._rows[positions]
        sizes = self._ends[positions] - self._starts[positions]
        other = np.flatnonzero(sizes != frame_bytes)
        if len(other):
            raise ValueError(
                f"{self.path}: record {positions[other[0]]} differs in layout from the first; make it again"
            )
        return np.frombuffer(b"".join(self.frames(positions)), np.uint8).reshape(-1, frame_bytes)

    def damage(self, position: int) -> ValueError:
        """What is to be raised for a record that is not as its checksum says."""
        start = self._starts[position]
        return ValueError(f"{self.path}: record {position} at byte {start} is damaged (checksum); make the file again")

    @cached_property
    def _rows(self) -> NDArray[np.uint8]:
        """All frames [records, size] where they have one size, and else [0, 0]."""
        content = np.frombuffer(self._content, np.uint8)
        sizes = self._ends - self._starts
        return content.reshape(len(self), -1) if len(sizes) and (sizes == sizes[0]).all() else content[:0].reshape(0, 0)

    def _equal_starts(self, size: int) -> NDArray[np.int64] | None:
        """The starts of records of one size, by a few of them: to look at each would read the whole file."""
        if size < FRAME_HEAD:
            return None
        frame_bytes = FRAME_HEAD + int.from_bytes(self._content[:8], "little") + FRAME_TAIL
        if size % frame_bytes:
            return None
        starts = np.arange(0, size, frame_bytes)
        sample = starts[np.linspace(0, len(starts) - 1, SAMPLED_HEADS).astype(np.int64)].tolist()
        same = all(self._content[start : start + FRAME_HEAD] == self._content[:FRAME_HEAD] for start in sample)
        return starts if same and masked_crcs([self._content[:8]]).tobytes() == self._content[8:FRAME_HEAD] else None

    def _record_starts(self, size: int) -> NDArray[np.int64]:
        starts: list[int] = []
        start, unpack = 0, struct.Struct("<QI").unpack_from
        while start + FRAME_HEAD <= size:
            length, length_crc = unpack(self._content, start)
            # Only a damaged or foreign file has an impossible length; no need to checksum the others here.
            following = start + FRAME_HEAD + length + FRAME_TAIL
            if (not starts or following > size) and masked_crcs([self._content[start : start + 8]])[0] != length_crc:
                raise ValueError(f"{self.path}: not a TFRecord file, or damaged at byte {start}; make it again")
            if following > size:
                break
            starts.append(start)
            start = following
        if start != size:
            raise ValueError(
                f"{self.path}: cut off after {len(starts)} whole records, {size - start} bytes are left over;"
                " make or copy the file again"
            )
        return np.array(starts, np.int64)


class RecordShard:
    """A TFRecord file whose records have one schema and one width: those of the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = RecordFile(path)
        self.schema, self.width, self.predictions = "", 0, 0
        self.layout: Layout | None = None
        if len(self.file):
            self._recognise(self._first())

    def _first(self) -> dict[str, Any]:
        frames = self.file.frames(np.array([0]))
        if len(find_damaged(frames)):
            raise self.file.damage(0)
        try:
            return parse_example(frames[0][FRAME_HEAD:-FRAME_TAIL])
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def _recognise(self, example: dict[str, Any]) -> None:
        if set(FEATURES) <= set(example):
            self.schema = "canonical"
            self.width, self.predictions = len(example["input_ids"]), len(example["masked_lm_positions"])
        elif set(example) in (MASKED_FEATURES, UNMASKED_FEATURES):
            self.schema = "compact" if set(example) == MASKED_FEATURES else "unmasked"
            sizes = {name: len(value) for name, value in example.items()}
            self.width, self.predictions = widths_of(sizes, example["shape"])
            self.layout = layout_of(sizes)
        else:
            found = ", ".join(sorted(example)) or "none"
            raise ValueError(f"{self.path}: its records are not of pretraining (features: {found}); {ADVICE}")


class RecordBin:
    """Records of one schema and one width in several files, numbered through from 0 in their order."""

    def __init__(self, shards: Sequence[RecordShard]) -> None:
        self._shards = shards
        self._first = np.cumsum([0, *(len(shard.file) for shard in shards)])  # [files + 1]
        self.width = shards[0].width
        self.predictions = int(
            require_same("max_predictions_per_seq", {shard.path: shard.predictions for shard in shards})
        )
        frames = {shard.path: 0 if shard.layout is None else shard.layout.frame_bytes for shard in shards}
        require_same("the size of a record in bytes", frames)
        self._layout = shards[0].layout

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def firsts(self) -> list[int]:
        """The number of each file's first record."""
        return self._first[:-1].tolist()

    def path_of(self, position: int) -> Path:
        """The file of a record."""
        return self._shards[self._files_of(np.array([position]))[0]].path

    def batch(
        self, positions: NDArray[np.int64], rules: MaskRules | None, keys: NDArray[np.uint64]
    ) -> dict[str, NDArray[Any]]:
        """The seven features of these records, each of two dimensions; checksums are verified.

        Unmasked records are masked by `rules` as `keys` [N] decide.
        """
        files = self._files_of(positions)
        places = positions - self._first[files]
        if self._layout is None:
            return self._decode_canonical(files, places)
        frames = np.empty((len(positions), self._layout.frame_bytes), np.uint8)
        for number, mine in _group(files):
            frames[mine] = self._shards[number].file.equal_frames(places[mine], self._layout.frame_bytes)
        content = frames.tobytes()
        size = self._layout.frame_bytes
        self._verify([content[first : first + size] for first in range(0, len(content), size)], files, places)
        rows, predictions = decode_compact(frames, self._layout)
        if predictions is None:
            assert rules is not None  # unmasked records are not opened without
            rows, predictions, _ = mask(rows, keys, rules)
        return features(rows, predictions)

    def _files_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._first, positions, side="right") - 1

    def _verify(self, frames: Sequence[bytes], files: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        for row in find_damaged(frames):
            raise self._shards[files[row]].file.damage(int(places[row]))

    def _decode_canonical(self, files: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Canonical records, all by one call, which has a price of its own."""
        frames = np.empty(len(files), object)
        for number, mine in _group(files):
            frames[mine] = self._shards[number].file.frames(places[mine])
        self._verify(frames.tolist(), files, places)
        messages = [frame[FRAME_HEAD:-FRAME_TAIL] for frame in frames]
        try:
            return decode_examples(messages, self.width, self.predictions)
        except ValueError:
            for message, number in zip(messages, files.tolist()):
                try:
                    decode_examples([message], self.width, self.predictions)
                except ValueError as error:  # of the file that holds it
                    raise ValueError(f"{self._shards[number].path}: {error}") from error
            raise


def find_damaged(frames: Sequence[bytes]) -> NDArray[np.intp]:
    """Which of these frames hold a record that is not as its checksum says."""
    stored = np.frombuffer(b"".join(frame[-FRAME_TAIL:] for frame in frames), "<u4")
    return np.flatnonzero(masked_crcs(frame[FRAME_HEAD:-FRAME_TAIL] for frame in frames) != stored)


def allow_open_files(count: int) -> None:
    """Let this process have so many record files, each of which stays open; 1024 is a usual limit.

    Raises ValueError when the machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or count + OTHER_OPEN_FILES <= soft:
        return
    limit = count + OTHER_OPEN_FILES if hard == resource.RLIM_INFINITY else min(count + OTHER_OPEN_FILES, hard)
    if count >= limit:
        raise ValueError(
            f"there are {count} files of records, but a process may open {hard} (ulimit -Hn); allow it more, or "
            "prepare fewer files with --num_shards"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def require_same(name: str, values: Mapping[Path, Any]) -> Any:
    """The one value that all files have; ValueError that names two with different ones."""
    first, expected = next(iter(values.items()))
    for path, value in values.items():
        if value != expected:
            raise ValueError(
                f"{path}: {name} is {value}, but {expected} in {first}; keep records of different kinds in "
                "different folders"
            )
    return expected


def _group(numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each number once, and its places."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order], append=-1)) + 1
    for first, end in zip([0, *ends.tolist()], ends.tolist()):
        yield int(numbers[order[first]]), order[first:end]
