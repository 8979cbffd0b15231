"""Names that move: what the newest good run of a pipeline made, and what it was before.

A ref is a log, `refs/<name>/<number>.json`, of entries that are never changed; the one with the highest number holds.
To move it is to create the next number, which of several writers one can: a comparison and a swap, on a folder and in
a bucket alike, whose history needs no versions of objects.
"""

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from bertline.components.store.folder import Found
from bertline.files import parse_document

LATEST = "latest"
DIGITS = 6
NUMBERED = re.compile(r"(\d+)\.json")


class Objects(Protocol):
    """Where a ref lies: a folder or a bucket."""

    def read(self, name: str) -> bytes:
        """An object's content."""

    def create(self, name: str, content: bytes) -> bool:
        """Whether the object was not there, and is now."""

    def list(self, folder: str) -> Iterable[Found]:
        """All objects below a folder, in order."""


@dataclass(frozen=True)
class Entry:
    """What a ref pointed to from a moment on."""

    number: int  # from 1
    moved: str  # when, as ISO 8601 in UTC
    reason: str  # "run tiny-20261201-120000", "rollback to 3"
    artifacts: dict[str, str]  # task -> where its artifact lies


SHAPE = {"number": int, "moved": str, "reason": str, "artifacts": {str: str}}


class MovedError(OSError):
    """Another process has moved the ref since it was read."""


def read_history(objects: Objects, name: str) -> list[Entry]:
    """All that the ref pointed to, the oldest first; ValueError for an entry that cannot be read."""
    entries = []
    advice = "remove it, and the ref is what it was before"
    for path in (found.name for found in objects.list(f"refs/{name}/")):
        if numbered := NUMBERED.fullmatch(path.rpartition("/")[2]):
            said = parse_document(objects.read(path), f"{objects}/{path}", SHAPE, advice)
            if said["number"] != int(numbered[1]):
                raise ValueError(f"{objects}/{path}: damaged (its number is {said['number']}); {advice}")
            entries.append(Entry(**{field: said[field] for field in SHAPE}))
    return sorted(entries, key=lambda entry: entry.number)


def move(objects: Objects, name: str, artifacts: Mapping[str, str], reason: str, history: list[Entry]) -> Entry:
    """Let the ref point to `artifacts`, after the history that was read; MovedError where another was first.

    Where it points there already, nothing is written.
    """
    if history and history[-1].artifacts == artifacts:
        return history[-1]
    number = history[-1].number + 1 if history else 1
    moved = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = Entry(number, moved, reason, dict(artifacts))
    content = json.dumps(asdict(entry), indent=1, ensure_ascii=False) + "\n"
    if not objects.create(f"refs/{name}/{number:0{DIGITS}}.json", content.encode()):
        raise MovedError(f"{objects}/refs/{name}: another process has moved it; look at `bertline history` and repeat")
    return entry


def move_after_all(objects: Objects, name: str, artifacts: Mapping[str, str], reason: str) -> Entry:
    """Let the ref point to `artifacts`, after whatever it points to: of runs that end together the last one holds."""
    while True:
        try:
            return move(objects, name, artifacts, reason, read_history(objects, name))
        except MovedError:
            continue


def roll_back(objects: Objects, name: str, number: int = 0) -> Entry:
    """Let the ref point to what entry `number` (0: the one before the last) says; ValueError where there is none."""
    history = read_history(objects, name)
    wanted = _choose(objects, name, number, history)
    return move(objects, name, wanted.artifacts, f"rollback to {wanted.number}", history)


def find_entry(objects: Objects, name: str, number: int = 0) -> Entry:
    """Entry `number` (0: the one before the last); ValueError where there is none."""
    return _choose(objects, name, number, read_history(objects, name))


def _choose(objects: Objects, name: str, number: int, history: list[Entry]) -> Entry:
    known = {entry.number: entry for entry in history}
    wanted = number or (history[-2].number if len(history) > 1 else 0)
    if wanted not in known:
        numbers = ", ".join(map(str, known)) or "none"
        raise ValueError(f"{objects}/refs/{name}: no entry {number or 'before the last'}; there are: {numbers}")
    return known[wanted]
