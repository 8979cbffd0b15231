"""Snapshots of a training in its work folder: written by a thread while it goes on, and what a run goes on from."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from bertline.files import draft_of
from bertline.model.training.checkpoint import (
    LOG_FILE,
    STATE_FILE,
    Checkpoint,
    Row,
    TrainingLog,
    read_checkpoint,
    rows_of,
    write_checkpoint,
    write_log,
)
from bertline.progress import say
from bertline.settings import describe_differences, list_settings

Read = TypeVar("Read")

PREFIX = "snapshot-"
IN_STORE = re.compile(r"[0-9a-f]{16}\.work")  # the name of a work folder that a store gives
DRAFTS = ".*.tmp"  # what a killed run was writing or deleting


def snapshot_writer(checkpoint: Checkpoint, log: TrainingLog, identity: Mapping[str, Any]) -> Callable[[Path], None]:
    """A function that fills a folder with the training's state as it is now, however long it waits for its turn."""
    lines = log.to_lines()
    state = {**checkpoint.state, "stage": identity, "pending": list(log.pending)}

    def write(folder: Path) -> None:
        write_checkpoint(folder, dataclasses.replace(checkpoint, state=state))
        write_log(folder, lines)

    return write


def read_snapshot(folder: Path, *, with_slots: bool = True) -> tuple[Checkpoint, TrainingLog]:
    """The state that `snapshot_writer` wrote; FileNotFoundError or ValueError for a missing, cut or foreign file."""
    checkpoint = read_checkpoint(folder, with_slots=with_slots)
    rows = rows_of((folder / LOG_FILE).read_text(encoding="utf-8"))
    try:
        log_every_steps, pending = checkpoint.state["stage"]["log_every_steps"], checkpoint.state["pending"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / STATE_FILE}: not of an interrupted training ({error} is missing)") from error
    return checkpoint, TrainingLog(log_every_steps, rows, pending)


def restore(
    work: Path, start: Checkpoint, rows: Sequence[Row], identity: Mapping[str, Any], config: Any
) -> tuple[Checkpoint, TrainingLog]:
    """What the newest snapshot in `work` has reached, with its log; without one the start, with the `rows` before it.

    Raises ValueError where the snapshot is of a training with another `identity`: other settings or input. A setting
    of `config` that the version which wrote it did not know had its default there.
    """
    resumed = newest_snapshot(work, read_snapshot)
    if resumed is None:
        _say_why_not_resumed(work, start, identity, config)
        return start, TrainingLog(config.log_every_steps, rows)
    other = _describe_other_run(resumed[0], start, identity, config)
    if other:
        raise ValueError(
            f"{work} holds an interrupted run {other}; repeat that run with its settings, input and version, or delete "
            "the folder to start afresh"
        )
    say(f"{work}: training goes on from step {resumed[0].state['step']:,}, its newest snapshot")
    if "code" in identity and "code" not in resumed[0].state["stage"]:
        say(f"{work}: the snapshot does not say which code began it; training goes on with this version")
    return resumed


def _say_why_not_resumed(work: Path, start: Checkpoint, identity: Mapping[str, Any], config: Any) -> None:
    """In a store, where every training has a work folder of its own: what is other in the latest interrupted one."""
    folders = [folder for folder in work.parent.glob(f"*{work.suffix}") if IN_STORE.fullmatch(folder.name)]
    others = [folder for folder in folders if folder != work and snapshot_steps(folder)]
    if IN_STORE.fullmatch(work.name) and others:
        latest = max(others, key=lambda folder: folder.stat().st_mtime)
        resumed = newest_snapshot(latest, partial(read_snapshot, with_slots=False))
        other = resumed and _describe_other_run(resumed[0], start, identity, config)
        if other:
            say(f"{latest} holds an interrupted run {other}; this one starts afresh, beside it")


def _describe_other_run(snapshot: Checkpoint, start: Checkpoint, identity: Mapping[str, Any], config: Any) -> str:
    """What that run has which this one has not, in words; "" where this one may go on from it."""
    there, here = {**list_settings(type(config)), **snapshot.state["stage"]}, dict(identity)
    code, own_code = there.pop("code", None), here.pop("code", None)
    if code is not None and own_code is not None and code["fingerprint"] != own_code["fingerprint"]:
        modules = code["modules"].keys() | own_code["modules"].keys()
        changed = sorted(name for name in modules if code["modules"].get(name) != own_code["modules"].get(name))
        return f"of other code: {', '.join(changed) or 'what its modules use'} changed since"
    if there != here:
        unknown = sorted(here.keys() - there.keys())  # to the version that wrote it, and not settings
        found = dict(sorted({**there, **dict.fromkeys(unknown)}.items()))
        return f"whose {describe_differences(found, here)}"
    shape = describe_differences(*map(dataclasses.asdict, (snapshot.bert_config, start.bert_config)))
    return f"of another model, whose {shape}" if shape else ""


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
        for folder in self._work.glob(DRAFTS) if self._put == self._save else ():
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
        self._work.mkdir(parents=True, exist_ok=True)
        try:
            with draft_of(whole) as draft:
                draft.mkdir()
                write(draft)
                if whole.exists():  # a damaged one that `newest_snapshot` passed over
                    _delete(whole)
            self._delete_others(step)
        except OSError as error:
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
    folder.mkdir(exist_ok=True)
    for left_over in [*_snapshots(folder), *folder.glob(DRAFTS)]:
        shutil.rmtree(left_over)
    for step in sorted(choose_kept(snapshot_steps(work), 0, keep_every_steps)):
        name = f"{PREFIX}{step:09}"
        with draft_of(folder / name) as draft:
            shutil.copytree(work / name, draft, copy_function=_link)


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
    """Delete a snapshot; if this process is killed at it, what remains is a draft, not a snapshot."""
    condemned = snapshot.with_name(f".{snapshot.name}.deleted.tmp")
    snapshot.rename(condemned)
    shutil.rmtree(condemned)
