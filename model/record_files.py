"""TFRecord files: mapped into memory, with the place of every record, checksums verified when one is read."""

import mmap
import struct
from collections.abc import Iterator
from itertools import pairwise
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

    def __len__(self) -> int:
        return len(self._starts)

    def framed(self) -> Iterator[bytes]:
        """All records with their frames, in order."""
        for start, end in pairwise([*self._starts.tolist(), len(self._content)]):
            yield self._content[start:end]

    def read(self, position: int) -> bytes:
        """The message of a record. Raises ValueError when its checksum does not match."""
        start = int(self._starts[position])
        (length,) = struct.unpack_from("<Q", self._content, start)
        message = self._content[start + FRAME_HEAD : start + FRAME_HEAD + length]
        self._verify([message], np.array([position]))
        return message

    def frames(self, positions: NDArray[np.integer], frame_bytes: int) -> NDArray[np.uint8]:
        """Records of one size with their frames, uint8 [N, frame_bytes]; errors are those of `read`."""
        starts = self._starts[positions]
        ends = np.append(self._starts[1:], len(self._content))[positions]
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

    def _verify(self, messages: list[bytes], positions: NDArray[np.integer]) -> None:
        starts = self._starts[positions]
        found = masked_crcs(messages)
        for message, start, position, crc in zip(messages, starts.tolist(), positions.tolist(), found.tolist()):
            if struct.unpack_from("<I", self._content, start + FRAME_HEAD + len(message))[0] != crc:
                raise ValueError(
                    f"{self.path}: record {position} at byte {start} is damaged (checksum); make the file again"
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
