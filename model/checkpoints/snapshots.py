"""A training's snapshots in its work folder: written whole or not at all, the newest two kept."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from bertline.model.checkpoints.state import flush_to_disk
from bertline.model.progress import say

Read = TypeVar("Read")

KEPT = 2  # the newest, and one more should the disk have damaged it
PREFIX, PARTIAL = "snapshot-", "partial-"


def save_snapshot(work: Path, step: int, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, then give it its name; older snapshots than the last two are deleted.

    A run that is killed, or a disk that fills up, leaves a partial folder that no reader looks at.
    """
    work.mkdir(parents=True, exist_ok=True)
    _delete(work.glob(PARTIAL + "*"))
    partial, whole = work / f"{PARTIAL}{step:09}", work / f"{PREFIX}{step:09}"
    partial.mkdir()
    write(partial)
    flush_to_disk(partial)
    if whole.exists():  # a damaged one that `newest_snapshot` passed over
        shutil.rmtree(whole)
    partial.rename(whole)
    flush_to_disk(work)
    _delete(_snapshots(work)[:-KEPT])


def newest_snapshot(work: Path, read: Callable[[Path], Read]) -> Read | None:
    """What `read` makes of the newest snapshot; one with missing or cut files is passed over with a line."""
    for folder in reversed(_snapshots(work)):
        try:
            return read(folder)
        except (FileNotFoundError, ValueError) as error:
            say(f"{folder}: damaged, going back to the one before ({error})")
    return None


def _snapshots(work: Path) -> list[Path]:
    """Whole snapshots, oldest first; names carry the step with leading zeros."""
    return sorted(work.glob(PREFIX + "*"))


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def snapshot_steps(work: Path) -> list[int]:
    """The steps of the whole snapshots, oldest first."""
    return [int(folder.name.removeprefix(PREFIX)) for folder in _snapshots(work)]
