"""A machine that is taken away: SIGTERM ends a training at its next step, with a snapshot to go on from."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

TRY_AGAIN = 75  # the exit code for "run the same command again" (EX_TEMPFAIL in sysexits.h)


class PreemptedError(BaseException):
    """The training was asked to end; what it had reached is on disk. As Ctrl-C, no library's handler takes it up."""


class Preemption:
    """Notes that SIGTERM came; use as a context manager around work that asks now and then."""

    def __init__(self, *, listens: bool = True) -> None:
        """A handler is set on entering if it `listens`, in the main thread, where alone Python lets it be set."""
        self.requested = False
        self._listens = listens and threading.current_thread() is threading.main_thread()

    def look(self) -> bool:
        """Whether to end here, between two steps."""
        return self.requested

    def __enter__(self) -> Self:
        """Take SIGTERM over."""
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore SIGTERM's handler; once it ended the training, ignore it: it may come to a run and its steps."""
        if self._listens:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if kind is PreemptedError else self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises PreemptedError at once: for what goes on before and after the updates of a training."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise PreemptedError("ended by SIGTERM; the same command goes on from the last snapshot")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:  # otherwise it came, and stays ignored
            signal.signal(signal.SIGTERM, before)
