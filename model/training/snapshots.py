"""A training's snapshots in its work folder: written by a thread while training goes on, whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bertline.files import flush_to_disk
from bertline.progress import say

Read = TypeVar("Read")

PREFIX, PARTIAL = "snapshot-", "partial-"


class Snapshots:
    """Writes snapshots, one at a time; use as a context manager, whose end waits for the one being written."""

    def __init__(
        self,
        work: Path,
        keep: int = 2,
        keep_every_steps: int = 0,
        save: Callable[[int, Callable[[Path], None]], None] | None = None,
    ) -> None:
        """The newest `keep` stay, and the first at or after every multiple of `keep_every_steps` (0: no others).

        With `save`, that function is called with the step and what fills a folder, and all this is its affair.
        """
        self._put = save or self._save
        self._work, self._keep, self._keep_every_steps = work, keep, keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._writing: Future[None] | None = None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Start to write the snapshot of `step`, once the one before is on the disk.

        `write` fills a new folder, in a thread: what it writes must not change any more. Raises OSError where
        the one before could not be written.
        """
        self.wait()
        self._writing = self._writer.submit(self._put, step, write)

    def check(self) -> None:
        """Raise the OSError of a snapshot that could not be written; waits for nothing."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the last snapshot is on the disk; raises OSError where it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> "Snapshots":
        """Delete what a killed writer has left in a folder of its own."""
        for folder in self._work.glob(PARTIAL + "*") if self._put == self._save else ():
            shutil.rmtree(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the writer; its error is said, and raised unless another one is on its way."""
        try:
            self.wait()
        except OSError as failure:
            if error is None:
                raise
            say(str(failure))
        finally:
            self._writer.shutdown()

    def _save(self, step: int, write: Callable[[Path], None]) -> None:
        whole = self._work / f"{PREFIX}{step:09}"
        partial = self._work / f"{PARTIAL}{step:09}"
        try:
            partial.mkdir(parents=True)
            write(partial)
            flush_to_disk(partial)
            if whole.exists():  # a damaged one that `newest_snapshot` passed over
                _delete(whole)
            partial.rename(whole)
            flush_to_disk(self._work)
            self._delete_others(step)
        except OSError as error:
            with contextlib.suppress(OSError):
                shutil.rmtree(partial)
            raise OSError(f"{error}; the snapshot of step {step} is lost, the one before stays") from error

    def _delete_others(self, newest: int) -> None:
        """Delete old snapshots, and later ones than the `newest`: damaged ones that `newest_snapshot` passed over."""
        folders = {_step_of(folder): folder for folder in _snapshots(self._work)}
        stay = kept([step for step in folders if step <= newest], self._keep, self._keep_every_steps)
        for step in folders.keys() - stay:
            _delete(folders[step])


def kept(steps: Sequence[int], keep: int, keep_every_steps: int) -> set[int]:
    """Which snapshots stay, of those at `steps`, ascending: the last `keep`, the first of every so many steps.

    >>> sorted(kept([6, 9, 12, 15, 21, 24], 1, 10))
    [12, 21, 24]
    """
    stay = set(steps[max(len(steps) - keep, 0) :])
    if keep_every_steps:
        pairs = zip([0, *steps], steps, strict=False)
        stay |= {step for before, step in pairs if before // keep_every_steps != step // keep_every_steps}
    return stay


def lay_beside(folder: Path, work: Path, keep_every_steps: int) -> None:
    """Give `folder` those snapshots that stay for `keep_every_steps`, before the work folder goes: links, or copies.

    Others in it, of an earlier run, are deleted.
    """
    for left_over in [*folder.glob(PREFIX + "*"), *folder.glob(PARTIAL + "*")]:
        shutil.rmtree(left_over)
    for step in sorted(kept(snapshot_steps(work), 0, keep_every_steps)):
        draft = folder / f"{PARTIAL}{step:09}"
        shutil.copytree(work / f"{PREFIX}{step:09}", draft, copy_function=_linked)
        draft.rename(folder / f"{PREFIX}{step:09}")


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def newest_snapshot(work: Path, read: Callable[[Path], Read]) -> Read | None:
    """What `read` makes of the newest snapshot; one with missing or cut files is passed over with a line."""
    for folder in reversed(_snapshots(work)):
        try:
            return read(folder)
        except (FileNotFoundError, ValueError) as error:
            say(f"{folder}: damaged, going back to the one before ({error})")
    return None


def snapshot_steps(work: Path) -> list[int]:
    """The steps of the whole snapshots, oldest first."""
    return [_step_of(folder) for folder in _snapshots(work)]


def _snapshots(work: Path) -> list[Path]:
    """Whole snapshots, oldest first."""
    return sorted(work.glob(PREFIX + "[0-9]*"), key=_step_of)


def _step_of(snapshot: Path) -> int:
    return int(snapshot.name.removeprefix(PREFIX))


def _delete(snapshot: Path) -> None:
    """Delete a snapshot; if this process is killed at it, what is left is no snapshot but a partial folder."""
    condemned = snapshot.with_name(PARTIAL + snapshot.name)
    snapshot.rename(condemned)
    shutil.rmtree(condemned)
