"""Small files below a folder, read and written as the objects of a bucket are: once, or over what was read."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bertline.files import write_whole

SCHEME = "gs://"  # what a uri of a bucket begins with
ATTEMPT = "attempt"  # a note of a commit in a bucket: the folder of its files


class Found(NamedTuple):
    """What is known of an object without reading it."""

    name: str
    size_bytes: int
    generation: int
    crc32c: str  # as Cloud Storage writes it; "" of a file
    updated: float  # seconds since 1970
    notes: Mapping[str, str]  # what its writer said of it


@dataclass(frozen=True)
class Folder:
    """The files below a folder; names are relative to it, with slashes."""

    root: Path

    def __str__(self) -> str:
        """The folder."""
        return str(self.root)

    def read(self, name: str) -> bytes:
        """A file's content; FileNotFoundError where there is none."""
        return (self.root / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that nobody has written: of several writers one gets True, the others change nothing."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        write_whole(draft, content)
        try:
            os.link(draft, path)  # never over a file that is there, as a rename would be
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write a file, over one that is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def list(self, folder: str = "") -> Iterator[Found]:
        """All files below, in order; drafts are passed over."""
        for path in sorted((self.root / folder).rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and "/." not in f"/{name}":
                stat = path.stat()
                yield Found(name, stat.st_size, stat.st_mtime_ns, "", stat.st_mtime, {})

    def delete(self, names: Sequence[str]) -> None:
        """Delete files, and folders that are empty then."""
        for name in names:
            path = self.root / name
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in path.relative_to(self.root).parents:
                    (self.root / folder).rmdir()
