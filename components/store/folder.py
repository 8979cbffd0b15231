"""Small files below a folder, read and written as the objects of a bucket are; and the folder of copies of buckets."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bertline.files import parse_document, write_whole

SLASHES_AT_END = re.compile(r"(?<=[^:/])/+$")
SCHEME = "gs://"  # what a uri of a bucket begins with
RESUME = "resume"  # below a store in a bucket: what survives a kill
WORK = ".work"  # ends the names of the folders of that on this machine
CACHE_VARIABLE = "BERTLINE_CACHE"  # the folder of copies of what lies in buckets
INPUTS = "inputs"  # below that folder: what lies in no store
ORIGIN = ".origin.json"  # in a folder there: where its files come from
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


def store_below(out: str) -> str:
    """The store of runs whose --out that is.

    >>> store_below("out/"), store_below("gs://bucket/bert"), store_below("gs://")
    ('out/store', 'gs://bucket/bert/store', 'gs:///store')
    """
    return f"{SLASHES_AT_END.sub('', out)}/store"


def find_cache() -> Path:
    """The folder of copies of what lies in buckets."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "bertline")


def uri_of_copy(path: Path) -> str:
    """Where the bucket has what belongs at a path below the folder of copies: a file of an artifact, of an input, or of
    what a killed step goes on from; "" for other paths.
    """
    cache = find_cache()
    if not path.is_relative_to(cache):
        return ""
    if path.is_relative_to(cache / INPUTS):
        return f"{SCHEME}{path.relative_to(cache / INPUTS)}"
    for folder in (path, *path.parents):
        rest = path.relative_to(folder)
        if attempt := read_origin(folder):
            return f"{SCHEME}{folder.relative_to(cache) / attempt / rest}"
        if folder.name.endswith(WORK):
            kind, name = folder.parent, folder.name.removesuffix(WORK)
            return f"{SCHEME}{kind.parent.relative_to(cache) / RESUME / kind.name / name / rest}"
    return ""


def read_origin(folder: Path) -> str:
    """The attempt that the files of this machine's folder are of; "" where it does not say."""
    try:
        said = parse_document((folder / ORIGIN).read_bytes(), folder / ORIGIN, {ATTEMPT: str})
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    return str(said[ATTEMPT])
