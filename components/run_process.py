"""Processes that end together: a local run, its steps, and their workers.

SIGTERM at a run goes on to its step, so that a training saves what it has reached before both end.
"""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from bertline.preemption import Preemption

RUN_PROCESS_VARIABLE = "BERTLINE_RUN_PROCESS"  # process id of `bertline run`, set for its steps
ENDING = "ending"  # in a run's folder: SIGTERM came
STEPS = "steps.lock"  # in a run's folder, locked by every step while its process lives
SECONDS_BETWEEN_LOOKS = 0.5


class RunPreemption(Preemption):
    """SIGTERM at a local run, passed on to its step; use as a context manager around the steps."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the run's own."""
        super().__init__()
        self._folder = folder

    def wait_for_steps(self) -> None:
        """Return when no step lives: SIGTERM at a process group first kills the shell that the run waits for."""
        with (self._folder / STEPS).open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore SIGTERM's handler, and remove what told the steps."""
        super().__exit__(kind, error, trace)
        for name in (ENDING, STEPS):
            (self._folder / name).unlink(missing_ok=True)

    def _note(self, number: int, frame: FrameType | None) -> None:
        super()._note(number, frame)
        with contextlib.suppress(OSError):  # a full disk: the step goes on, and ends with the run if that is killed
            (self._folder / ENDING).touch()


def join_run(folder: Path) -> None:
    """Let this process, which carries out a step, end with the local run that it belongs to, if there is one.

    Soon after the run is killed the step is, too: two processes must never train in one work folder. KFP starts a
    step through a shell, which outlives the run and hides its end. SIGTERM at the run becomes SIGTERM here.
    """
    run_process = os.environ.get(RUN_PROCESS_VARIABLE)
    if run_process is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / STEPS, os.O_RDWR | os.O_CREAT)  # open till the end; forked workers do not share the lock
    fcntl.lockf(lock, fcntl.LOCK_SH)
    _watch(lambda: not _is_alive(int(run_process)), lambda: os._exit(1))
    _watch((folder / ENDING).exists, lambda: os.kill(os.getpid(), signal.SIGTERM))


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
