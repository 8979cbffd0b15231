"""Processes that end together: a local run, its steps, and their workers.

A signal that ends a run goes on to its step, so that a training saves what it has reached before both end.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from bertline.preemption import PreemptedError, Preemption, pass_on

RUN_PROCESS_VARIABLE = "BERTLINE_RUN_PROCESS"  # process id of `bertline run`, set for its steps
ENDING = "ending"  # in a run's folder: the numbers of the signals that came
ENDED = "ended"  # in a run's folder: a signal ended a step, be it one that came to the step alone
FAILED = "failed"  # in a run's folder: a step has failed, and no further one is begun
STEPS = "steps.lock"  # in a run's folder, locked by every step while its process lives
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 1.0  # that a step has at a second Ctrl-C


class RunPreemption(Preemption):
    """A signal that ends a local run, passed on to its step; use as a context manager around the steps."""

    doing = ""  # the step says what

    def __init__(self, folder: Path) -> None:
        """`folder` is the run's own."""
        super().__init__()
        self._folder = folder
        self.saves = True  # as its step may

    def __enter__(self) -> Self:
        """Take the signals over; those that a killed run has left in the folder are not this one's."""
        self._clean_up(ENDING, ENDED, FAILED)
        return super().__enter__()

    def wait_for_steps(self) -> None:
        """Return when no step lives: SIGTERM at a process group first kills the shell that the run waits for."""
        with (self._folder / STEPS).open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)

    def is_ending(self) -> bool:
        """Whether a signal came, to the run or to one of its steps."""
        return self.requested or (self._folder / ENDED).exists()

    def find_failed(self) -> str:
        """The task that has failed, if one has."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / FAILED).read_text(encoding="utf-8")
        return ""

    def tell(self, number: int, count: int) -> None:
        """Tell the steps; at a second Ctrl-C, see to it that they end."""
        with contextlib.suppress(OSError):  # a full disk: the step goes on, and ends with the run if that is killed
            with (self._folder / ENDING).open("a") as file:
                file.write(f"{number}\n")
            if count > 1:
                self._end_steps()

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Restore the signals' handlers, and remove what told the steps."""
        self.saves = False  # all that was made lies in the store
        super().__exit__(kind, *rest)
        self._clean_up(ENDING, ENDED, FAILED, STEPS)

    def _end_steps(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_END
        with (self._folder / STEPS).open("a") as file:
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(SECONDS_TO_END / 20)
        self._clean_up(ENDING, ENDED, FAILED, STEPS)

    def _clean_up(self, *names: str) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def no_task_after(preemption: RunPreemption) -> Iterator[None]:
    """Let kfp.local begin no further task once a signal came or one has failed.

    It would begin those that need nothing of the interrupted one, and those that wait in threads. It logs each one
    before it begins it, in the thread that does.
    """

    def refuse(record: logging.LogRecord) -> bool:
        if failed := preemption.find_failed():
            raise PreemptedError(f"{failed} has failed, no further step is begun")
        if preemption.is_ending():
            raise PreemptedError("no further step is begun")
        return True

    logging.getLogger().addFilter(refuse)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(refuse)


def join_run(folder: Path) -> None:
    """Let this process, which carries out a step, end with the local run that it belongs to, if there is one.

    Soon after the run is killed the step is, too: two processes must never train in one work folder. KFP starts a
    step through a shell, which outlives the run and hides its end. A signal at the run comes here, too.
    """
    run_process = os.environ.get(RUN_PROCESS_VARIABLE)
    if run_process is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / STEPS, os.O_RDWR | os.O_CREAT)  # open till the end; forked workers do not share the lock
    fcntl.lockf(lock, fcntl.LOCK_SH)
    _watch(lambda: not _is_alive(int(run_process)), lambda: os._exit(1))
    threading.Thread(target=_pass_on, args=(folder / ENDING,), daemon=True).start()


def fail_run(folder: Path, task: str) -> None:
    """Let the local run that this process belongs to, if there is one, begin no further step after this failed one."""
    if RUN_PROCESS_VARIABLE in os.environ:
        with contextlib.suppress(OSError):
            (folder / FAILED).write_text(task, encoding="utf-8")


def end_run(folder: Path) -> None:
    """Let the local run that this process belongs to, if there is one, begin no further step."""
    if RUN_PROCESS_VARIABLE in os.environ:
        with contextlib.suppress(OSError):
            (folder / ENDED).touch()


def _pass_on(ending: Path) -> None:
    """Give this process the signals that its run has got and it has not; it ignores those of the terminal."""
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS / 5)
        with contextlib.suppress(FileNotFoundError):
            pass_on([int(number) for number in ending.read_text(encoding="ascii").split()])


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def end_with_parent() -> None:
    """Let this worker end soon after its parent, however that ended: an initializer of process pools."""
    parent = os.getppid()
    _watch(lambda: os.getppid() != parent, lambda: os._exit(1))


def _watch(happened: Callable[[], bool], act: Callable[[], None]) -> None:
    """Do `act` once `happened` says so, in a thread that ends with the process."""

    def look() -> None:
        while not happened():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        act()

    threading.Thread(target=look, daemon=True).start()
