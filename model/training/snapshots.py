"""What a training keeps in its work folder: snapshots to go on from, and the best weights so far.

Snapshots are written by a thread while training goes on, whole or not at all. The log says which evaluation was the
best. A run may go back to any snapshot, so the folder holds the weights of the best evaluation up to each of them, and
of the best of all.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from bertline.files import flush_to_disk
from bertline.model.training.checkpoint import (
    HELDOUT,
    LOG_FILE,
    STATE_FILE,
    Checkpoint,
    Row,
    TrainingLog,
    evaluations,
    read_checkpoint,
    rows_of,
    write_checkpoint,
    write_log,
)
from bertline.progress import say

Read = TypeVar("Read")

PREFIX, PARTIAL = "snapshot-", "partial-"
BEST_FOLDER, BEST_FILE = "best", "best.json"  # in a finished checkpoint
BEST_PREFIX, BEST_DRAFT = "best-", "draft-best"  # in the work folder


def snapshot_writer(checkpoint: Checkpoint, log: TrainingLog, identity: Mapping[str, Any]) -> Callable[[Path], None]:
    """A function that fills a folder with the training's state as it is now, however long it waits for its turn."""
    lines = log.to_lines()
    state = {**checkpoint.state, "stage": identity, "pending": list(log.pending)}

    def write(folder: Path) -> None:
        write_checkpoint(folder, dataclasses.replace(checkpoint, state=state))
        write_log(folder, lines)

    return write


def read_snapshot(folder: Path) -> tuple[Checkpoint, TrainingLog]:
    """The state that `snapshot_writer` wrote; FileNotFoundError or ValueError for a missing, cut or foreign file."""
    checkpoint = read_checkpoint(folder, with_slots=True)
    rows = rows_of((folder / LOG_FILE).read_text(encoding="utf-8"))
    try:
        log_every_steps, pending = checkpoint.state["stage"]["log_every_steps"], checkpoint.state["pending"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / STATE_FILE}: not of an interrupted training ({error} is missing)") from error
    return checkpoint, TrainingLog(log_every_steps, rows, pending)


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

        With `save`, that function gets the step and what fills a folder, and keeps and deletes as it likes.
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
        stay = choose_kept([step for step in folders if step <= newest], self._keep, self._keep_every_steps)
        for step in folders.keys() - stay:
            _delete(folders[step])


def choose_kept(steps: Sequence[int], keep: int, keep_every_steps: int) -> set[int]:
    """Which snapshots stay, of those at `steps`, ascending: the last `keep`, the first of every so many steps.

    >>> sorted(choose_kept([6, 9, 12, 15, 21, 24], 1, 10))
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
    for step in sorted(choose_kept(snapshot_steps(work), 0, keep_every_steps)):
        draft = folder / f"{PARTIAL}{step:09}"
        shutil.copytree(work / f"{PREFIX}{step:09}", draft, copy_function=_link)
        draft.rename(folder / f"{PREFIX}{step:09}")


def _link(source: str, target: str) -> None:
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
    """Delete a snapshot; if this process is killed at it, what remains is a partial folder, not a snapshot."""
    condemned = snapshot.with_name(PARTIAL + snapshot.name)
    snapshot.rename(condemned)
    shutil.rmtree(condemned)


@dataclass(frozen=True)
class Measure:
    """The held-out score by which weights are compared; of equal ones the first is the best."""

    name: str
    highest: bool = False  # whether the highest is the best, or the lowest


@dataclass(frozen=True)
class BestWeights:
    """The best weights of the stage that began at `first_step`."""

    work: Path
    measure: Measure
    first_step: int

    def find(self, rows: Sequence[Row], until: int | None = None) -> Row | None:
        """The best evaluation of the stage up to the step `until`, if there is one."""
        scored = [row for row in self.evaluations(rows) if until is None or row["step"] <= until]
        sign = -1 if self.measure.highest else 1
        return min(scored, key=lambda row: sign * row[HELDOUT + self.measure.name], default=None)

    def evaluations(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the stage."""
        return [row for row in evaluations(rows) if self.first_step < row["step"]]

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep the weights of `checkpoint` as those of its step: whole or not at all."""
        self.work.mkdir(parents=True, exist_ok=True)
        draft, whole = self.work / BEST_DRAFT, self._folder(checkpoint.state["step"])
        for left_over in (draft, whole):  # of a run that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        draft.mkdir()
        write_checkpoint(draft, checkpoint)
        flush_to_disk(draft)
        draft.rename(whole)
        flush_to_disk(self.work)

    def delete_others(self, rows: Sequence[Row], coming: Sequence[int]) -> None:
        """Delete weights that are the best up to no snapshot, neither one on the disk nor one of the steps `coming`."""
        points = {*snapshot_steps(self.work), *coming}
        needed = {self._folder(int(row["step"])) for point in points if (row := self.find(rows, point))}
        for folder in set(self.work.glob(BEST_PREFIX + "*")) - needed:
            shutil.rmtree(folder)

    def write(self, out: Path, rows: Sequence[Row]) -> dict[str, float]:
        """Write best.json into a finished checkpoint, and the best weights as best/ if they are not the last ones.

        Returns counts. Best weights that the disk has damaged are reported as lost, and the checkpoint stays whole.
        """
        best, last = self.find(rows), self.evaluations(rows)[-1]
        assert best is not None  # a stage with held-out data is scored at its end
        weights: str | None = "."
        if best["step"] != last["step"]:
            weights = BEST_FOLDER if _copy(self._folder(int(best["step"])), out / BEST_FOLDER) else None
        facts = {"best": _scores(best), "last": _scores(last), "weights": weights}
        (out / BEST_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        name = HELDOUT + self.measure.name
        return {
            "best.step": best["step"],
            f"best.{name}": best[name],
            **{f"last.{name}": value for name, value in last.items() if name != "step"},
        }

    def _folder(self, step: int) -> Path:
        return self.work / f"{BEST_PREFIX}{step:09}"


def _copy(source: Path, target: Path) -> bool:
    """Copy a checkpoint's folder; False for a damaged one."""
    try:
        read_checkpoint(source)
    except (FileNotFoundError, ValueError) as error:
        say(f"{source}: damaged, the best weights are lost ({error}); the last ones are whole")
        return False
    shutil.copytree(source, target)
    return True


def _scores(row: Row) -> Row:
    return {name.removeprefix(HELDOUT): value for name, value in row.items()}
