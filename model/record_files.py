"""TFRecord files: mapped into memory, with the place of every record, checksums verified when one is read."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.model.example_encoding import FRAME_HEAD, FRAME_TAIL, masked_crcs


class RecordFile:
    """One TFRecord file. Raises ValueError when it is no such file, or cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._starts = self._record_starts(size)
        self._ends = np.append(self._starts[1:], size)[: len(self._starts)]

    def __len__(self) -> int:
        return len(self._starts)

    def framed(self) -> Iterator[bytes]:
        """All records with their frames, in order."""
        for start, end in zip(self._starts.tolist(), self._ends.tolist()):
            yield self._content[start:end]

    def messages(self, positions: NDArray[np.integer]) -> list[bytes]:
        """The records without their frames. Raises ValueError when a checksum does not match."""
        starts, ends = (places.tolist() for places in self._bounds(positions))
        found = [self._content[start + FRAME_HEAD : end - FRAME_TAIL] for start, end in zip(starts, ends)]
        self._verify(found, positions)
        return found

    def frames(self, positions: NDArray[np.integer], frame_bytes: int) -> NDArray[np.uint8]:
        """Records of one size with their frames, uint8 [N, frame_bytes]; errors are those of `messages`."""
        starts, ends = self._bounds(positions)
        other = np.flatnonzero(ends - starts != frame_bytes)
        if len(other):
            raise ValueError(
                f"{self.path}: record {positions[other[0]]} differs in layout from the first; make it again"
            )
        content = np.frombuffer(self._content, np.uint8)
        frames = content[starts[:, None] + np.arange(frame_bytes)]
        messages = frames[:, FRAME_HEAD:-FRAME_TAIL].tobytes()
        size = frame_bytes - FRAME_HEAD - FRAME_TAIL
        self._verify([messages[first : first + size] for first in range(0, len(messages), size)], positions)
        return frames

    def _bounds(self, positions: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the frames of these records begin and end, in bytes."""
        return self._starts[positions], self._ends[positions]

    def _verify(self, messages: list[bytes], positions: NDArray[np.integer]) -> None:
        starts, ends = self._bounds(positions)
        content = np.frombuffer(self._content, np.uint8)
        stored = content[ends[:, None] + np.arange(-FRAME_TAIL, 0)].view("<u4")[:, 0]
        damaged = np.flatnonzero(masked_crcs(messages) != stored)
        if len(damaged):
            raise ValueError(
                f"{self.path}: record {positions[damaged[0]]} at byte {starts[damaged[0]]} is damaged (checksum); "
                "make the file again"
            )

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
