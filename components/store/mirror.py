"""What survives a kill while an artifact is made, mirrored to a bucket, so that another machine can go on with it.

`resume/<kind>/<fingerprint>/INDEX.json` in the store names the objects that belong together; they have names of their
own, so that what an index names is never half of a newer file.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.components.store.bucket import Bucket
from bertline.processes import repeating
from bertline.progress import say

RESUME = "resume"  # below the store: what survives a kill
INDEX = "INDEX.json"  # of a work folder: the files that belong together
SECONDS_BETWEEN_MIRRORINGS = 2.0  # where there is something new


@dataclass(frozen=True)
class WorkMirror:
    """A work folder, and its copy in the bucket from which another machine goes on."""

    bucket: Bucket
    name: str
    folder: Path

    def restore(self) -> None:
        """Bring what the bucket has of the folder, where this machine has nothing."""
        if self.folder.exists() or self.bucket.find(f"{self.name}/{INDEX}") is None:
            return
        index: Mapping[str, Any] = json.loads(self.bucket.read(f"{self.name}/{INDEX}"))
        draft = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        objects = {f"{self.name}/{each['object']}": draft / path for path, each in index.items()}
        try:
            self.bucket.download(objects, f"{self.folder.name}: from the bucket")
        except FileNotFoundError as error:  # two processes have worked at one artifact
            say(f"{self.bucket}/{self.name}: {error}; the work begins again")
            shutil.rmtree(draft, ignore_errors=True)
            return
        draft.mkdir(exist_ok=True)
        draft.rename(self.folder)

    @contextmanager
    def following(self) -> Iterator[None]:
        """While the block runs, and where it ends before its time, carry over what is new."""
        known: dict[str, dict[str, Any]] = {}

        def carry() -> None:
            with contextlib.suppress(OSError):  # the next time, or at the end, where it is said
                self._carry_new(known)

        try:
            with repeating(carry, SECONDS_BETWEEN_MIRRORINGS):
                yield
        except BaseException:
            self._carry_new(known)
            raise

    def forget(self) -> None:
        """Remove it from the bucket."""
        self.bucket.delete([found.name for found in self.bucket.list(f"{self.name}/")])

    def _carry_new(self, known: dict[str, dict[str, Any]]) -> None:
        """Upload files that are new, then the index of all, then remove the objects that it no longer names."""
        there = _list_finished(self.folder)
        new = {path: stamp for path, stamp in there.items() if known.get(path, {}).get("stamp") != stamp}
        if not new and there.keys() == known.keys():
            return
        objects = {path: uuid.uuid4().hex for path in new}
        self.bucket.upload({f"{self.name}/{objects[path]}": self.folder / path for path in new}, self.folder.name)
        for path in new:
            known[path] = {"stamp": new[path], "object": objects[path]}
        for path in known.keys() - there.keys():
            del known[path]
        index = json.dumps({path: {"object": known[path]["object"]} for path in sorted(known)}, indent=1)
        found = self.bucket.find(f"{self.name}/{INDEX}")
        self.bucket.replace(f"{self.name}/{INDEX}", index.encode(), 0 if found is None else found.generation)
        named = {f"{self.name}/{each['object']}" for each in known.values()} | {f"{self.name}/{INDEX}"}
        self.bucket.delete([each.name for each in self.bucket.list(f"{self.name}/") if each.name not in named])


def _list_finished(folder: Path) -> dict[str, tuple[int, int]]:
    """The files below a work folder but for drafts: path -> size and time of change."""
    files = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                files["/".join(parts)] = (stat.st_size, stat.st_mtime_ns)
    return files
