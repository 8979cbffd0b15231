"""TFRecord files: mapped into memory, with the place of every record, checksums verified when one is read."""

import mmap
import resource
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.canonical import FRAME_HEAD, FRAME_TAIL, masked_crcs

SAMPLED_HEADS = 64  # of records that seem to be of one size
OTHER_OPEN_FILES = 512  # of a process, beside records: libraries, connections


class RecordFile:
    """One TFRecord file. Raises ValueError when it is no such file, or cut off."""

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

    def framed(self) -> Iterator[bytes]:
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
                raise ValueError(f"{self.path}: no TFRecord file, or damaged at byte {start}; make it again")
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


def damaged(frames: Sequence[bytes]) -> NDArray[np.intp]:
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
