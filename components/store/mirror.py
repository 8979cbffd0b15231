"""What survives a kill while an artifact is made, mirrored to a bucket, so that another machine can go on with it.

`resume/<kind>/<fingerprint>/INDEX.json` in the store names the objects that belong together; they have names of their
own, so that what an index names is never half of a newer file.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertline.components.store.bucket import Bucket, ChangedError
from bertline.files import FileName, parse_document
from bertline.processes import repeating
from bertline.progress import say

INDEX = "INDEX.json"  # of a work folder: the files that belong together
SHAPE = {FileName: {"object": str, "stamp": [int]}}  # path -> its object's name, and its file's size and time
SECONDS_BETWEEN_MIRRORINGS = 2.0  # where there is something new


@dataclass
class WorkMirror:
    """A work folder, and its copy in the bucket from which another machine goes on.

    Of several processes that make one artifact one has its copy there: whose turn the index was last.
    """

    bucket: Bucket
    name: str
    folder: Path
    is_followed: bool = field(default=True, init=False)  # false once another process has its copy there
    _known: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)  # path -> its object, its size and time
    _generation: int = field(default=0, init=False)  # of the index, as this process last saw it

    def restore(self) -> None:
        """Bring what the bucket has of the folder, where this machine has nothing."""
        found = self.bucket.find(self._index)
        self._generation = 0 if found is None else found.generation
        if found is None:
            return
        try:
            index = self._read_index()
        except ValueError as error:
            say(str(error))
            return
        if self.folder.exists():
            self._known = index  # with the stamps of the machine that wrote it, be it this one
            return
        draft = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        objects = {f"{self.name}/{each['object']}": draft / path for path, each in index.items()}
        try:
            self.bucket.download(objects, f"{self.folder.name}: from the bucket")
        except FileNotFoundError as error:  # another process has just replaced it
            say(f"{self.bucket}/{self.name}: {error}; the work begins again")
            shutil.rmtree(draft, ignore_errors=True)
            return
        draft.mkdir(exist_ok=True)
        draft.rename(self.folder)
        stamps = _list_finished(self.folder)
        self._known = {path: {"stamp": stamps[path], "object": each["object"]} for path, each in index.items()}

    @contextmanager
    def following(self) -> Iterator[None]:
        """While the block runs, and where it ends before its time, carry over what is new."""

        def carry() -> None:
            with contextlib.suppress(OSError):  # the next time, or at the end, where it is said
                self._carry_new()

        try:
            with repeating(carry, SECONDS_BETWEEN_MIRRORINGS):
                yield
        except BaseException:
            self._carry_new()
            raise

    def forget(self) -> None:
        """Remove it from the bucket."""
        self.bucket.delete([found.name for found in self.bucket.list(f"{self.name}/")])

    def _read_index(self) -> dict[str, dict[str, Any]]:
        where, advice = f"{self.bucket}/{self._index}", "the work begins again"
        index: dict[str, dict[str, Any]] = parse_document(self.bucket.read(self._index), where, SHAPE, advice)
        return index

    @property
    def _index(self) -> str:
        return f"{self.name}/{INDEX}"

    def _carry_new(self) -> None:
        """Upload files that are new, then the index of all, then remove the objects that it no longer names.

        What a process that was killed has carried without an index goes with the whole, in `forget`.
        """
        there = _list_finished(self.folder)
        new = {path: stamp for path, stamp in there.items() if self._known.get(path, {}).get("stamp") != stamp}
        if not self.is_followed or (not new and there.keys() == self._known.keys()):
            return
        objects = {path: uuid.uuid4().hex for path in new}
        self.bucket.upload({f"{self.name}/{objects[path]}": self.folder / path for path in new}, self.folder.name)
        kept = {path: each for path, each in self._known.items() if path in there}
        known = kept | {path: {"stamp": stamp, "object": objects[path]} for path, stamp in new.items()}
        index = json.dumps({path: known[path] for path in sorted(known)})
        try:
            self._generation = self.bucket.replace(self._index, index.encode(), self._generation)
        except ChangedError:
            say(f"{self.bucket}/{self.name}: another process makes the same, its work is kept there; this one goes on")
            self.is_followed = False
            self.bucket.delete([f"{self.name}/{each}" for each in objects.values()])
            return
        left = [each["object"] for path, each in self._known.items() if known.get(path) != each]
        self._known = known
        self.bucket.delete([f"{self.name}/{each}" for each in left])


def _list_finished(folder: Path) -> dict[str, list[int]]:
    """The files below a work folder but for drafts: path -> size, and time of change in nanoseconds."""
    files: dict[str, list[int]] = {}
    _add_finished(files, folder, "")
    return dict(sorted(files.items()))


def _add_finished(files: dict[str, list[int]], folder: Path | str, before: str) -> None:
    """Those of one folder; with pathlib, ten thousand of them would take a second each time."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                _add_finished(files, entry.path, f"{before}{entry.name}/")
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                files[before + entry.name] = [stat.st_size, stat.st_mtime_ns]
