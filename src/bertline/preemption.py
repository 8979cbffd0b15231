"""SIGTERM, as a machine that is taken away gets it, SIGHUP, of a terminal that is gone, and Ctrl-C (SIGINT).

Where there is nothing to save they raise PreemptedError at once, and a process that does not come out of it soon, of
a compilation for example, is ended as it is: nothing that is half made has its name yet. A training notes them from
its first step on, saves, and raises the error itself. Ctrl-C once more ends it without saving. Child processes ignore
Ctrl-C, which a terminal sends them, too, and are killed by their parent. What nohup or a shell has ignored stays so.
"""

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Self

from bertline.files import remove_drafts
from bertline.processes import join_thread, kill_children
from bertline.progress import erase_progress, say

TRY_AGAIN = 75  # the exit code for "run the same command again" (EX_TEMPFAIL in sysexits.h)
INTERRUPTED = 130  # that of Ctrl-C: 128 + SIGINT
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP", signal.SIGINT: "Ctrl-C"}
SAME_SECONDS = 0.5  # a second Ctrl-C so soon is the first one, from the terminal and from the run that passes it on
GRACE_SECONDS = 1.0  # that a process may take to come out of its work
STOP, LOST = 0, 255  # no signals' numbers: the end of the block, and an error that a library has swallowed


class PreemptedError(BaseException):
    """The process was asked to end; what its message names is on disk. As Ctrl-C, no library's handler takes it up."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.exit_code = INTERRUPTED if _cause() == signal.SIGINT else TRY_AGAIN


class Preemption:
    """Notes that a signal came; use as a context manager around work that looks now and then, and saves."""

    doing = "the step at work is computed and saved"  # what the user is told of a longer wait

    def __init__(self) -> None:
        self.requested = False
        self.saves = False  # whether there is something to save; before, a signal ends the work at once
        self._listening = ended_by_signals()

    def forget_looks(self) -> None:
        """There is nothing to save after all: what was looked at since is done again at no cost."""
        self.saves = False

    @property
    def cause(self) -> str:
        """What asked to end, for a message."""
        return NAMES[_cause()]

    def look(self) -> bool:
        """Whether to end here, between two steps: from the first look on there is one to save."""
        self.saves = True
        return self.requested

    def note(self) -> None:
        """Note one."""
        self.requested = True

    def tell(self, number: int, count: int) -> None:
        """Called by the thread that reads the signals at each that counts: the first one, and Ctrl-C after it."""

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._listening.__enter__()
        if (listener := _Listener.own()) is not None:
            listener.work = self
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Give them back; what was made is held in memory alone until it is written (`held`)."""
        if (listener := _Listener.own()) is not None:
            listener.is_ending |= kind is PreemptedError
            listener.work, listener.holds = Preemption(), kind is None and self.saves
        self._listening.__exit__(kind, *rest)


@contextmanager
def ended_by_signals(label: str = "", describe_kept: Callable[[], str] | None = None) -> Iterator[None]:
    """A signal in the block raises PreemptedError at once, unless a Preemption inside notes it, or `held` does.

    Its message ends with what `describe_kept` says then; blocks inside of others say it better. With a `label`, which
    begins its lines, the process is ended where it cannot raise it; it ends soon after, and ignores further signals.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other set a handler
        yield
        return
    listener, is_outermost = _Listener.current or _Listener(), _Listener.current is None
    before = listener.label, listener.describe_kept
    listener.label, listener.describe_kept = label or before[0], describe_kept or before[1]
    if is_outermost:
        listener.start()
    try:
        yield
    except PreemptedError:
        listener.is_ending = True
        raise
    finally:
        if is_outermost:
            listener.stop(ignores=listener.is_ending and bool(label))
        listener.label, listener.describe_kept = before
        if listener.error is not None:  # libraries swallow it, or put one of their own in its place
            raise listener.error from None


@contextmanager
def held(label: str) -> Iterator[None]:
    """A signal is heeded at the end of the block: it gives `label`, hours of work, its name on disk in seconds."""
    if (listener := _Listener.own()) is None:
        yield
        return
    if listener.error is not None:  # swallowed: what was made since may be half of what it should be
        raise listener.error
    before, listener.holds = listener.describe_kept, True
    listener.describe_kept = lambda: f"{label} is not whole: {before()}"
    try:
        yield
    finally:
        listener.describe_kept, listener.holds = before, False
    if listener.number:
        listener.end(lambda: f"{label} is whole")


def pass_on(numbers: Sequence[int]) -> None:
    """Let this process get those signals of another one that it has not got, be they ignored here."""
    if (listener := _Listener.current) is not None:
        listener.receive(*numbers[listener.count :])


class _Listener:
    """The signals of this process, between `start` and `stop`."""

    current: ClassVar["_Listener | None"] = None

    def __init__(self) -> None:
        self.number = self.count = 0  # the first signal; how many count
        self.label = ""
        self.describe_kept: Callable[[], str] = lambda: "the same command begins again"
        self.work = Preemption()  # in the block; one that never looks, where there is none
        self.holds = False
        self.is_ending = False  # an error is on its way out
        self.error: PreemptedError | None = None  # that was raised here
        self._counted_at = 0.0
        self._due, self._act = 0.0, self._tell_wait  # what is next to be done, unless the process ends before

    @classmethod
    def own(cls) -> "_Listener | None":
        return cls.current if threading.current_thread() is threading.main_thread() else None

    def start(self) -> None:
        _Listener.current = self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._pipe_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        ignored = {each for each in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(each) is signal.SIG_IGN}
        # Other threads would get Ctrl-C before `sigwait` does. Not blocked alone: dash unblocks it for its children.
        alone = len(list(Path("/proc/self/task").iterdir())) == 1
        awaited = {signal.SIGINT} - ignored if alone else set()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        handlers = {each: signal.SIG_IGN if each in ignored | awaited else self._handle for each in NAMES}
        self.handlers_before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
        self._started = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._logged_above = logging.root.manager.disable
        self._hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook, threading.excepthook = self._note_lost, self._note_failed
        targets = (self._watch, self._wait_for_interrupt) if awaited else (self._watch,)
        self._threads = [threading.Thread(target=each, daemon=True) for each in targets]
        for thread in self._threads:
            thread.start()

    def stop(self, *, ignores: bool) -> None:
        """Restore all, or have further signals ignored: they may come to a run and to its steps."""
        self.is_ending, _Listener.current = True, None
        self.receive(STOP)
        for thread in self._threads[1:]:
            signal.pthread_kill(thread.ident or 0, signal.SIGINT)
        for thread in self._threads:
            join_thread(thread)  # a next block asks whether it is alone
        signal.set_wakeup_fd(self._pipe_before)
        logging.disable(self._logged_above)
        for number, handler in self.handlers_before.items():
            signal.signal(number, signal.SIG_IGN if ignores else handler)
        sys.unraisablehook, threading.excepthook = self._hooks
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for end in (self._read, self._write):
            os.close(end)

    def end(self, describe_kept: Callable[[], str]) -> None:
        if not self.is_ending:
            self.is_ending = True  # first of all: another signal may come meanwhile
            self.error = PreemptedError(f"ended by {NAMES[_cause()]}; {describe_kept()}")
            logging.disable()  # Beam would log where its worker was
            raise self.error

    def _waits(self) -> bool:
        return not self.is_ending and (self.holds or self.work.saves)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._waits():
            self.work.note()
        else:
            self.end(self.describe_kept)

    def _note_lost(self, lost: "sys.UnraisableHookArgs") -> None:
        """The error was raised in a finalizer or in what a library of C calls, from where it does not come out."""
        if isinstance(lost.exc_value, PreemptedError):
            self.receive(LOST)
        else:
            self._hooks[0](lost)

    def _note_failed(self, failed: threading.ExceptHookArgs) -> None:
        # A thread of a library, which may miss the children that were killed by a signal that is still on its way.
        time.sleep(0 if self.count else SAME_SECONDS)
        if not self.count:
            self._hooks[1](failed)

    def receive(self, *numbers: int) -> None:
        os.write(self._write, bytes(numbers))

    def _wait_for_interrupt(self) -> None:
        while signal.sigwait({signal.SIGINT}) and _Listener.current is self:
            self.receive(signal.SIGINT)

    def _watch(self) -> None:
        arriving = select.poll()
        arriving.register(self._read, select.POLLIN)
        while True:
            left = max(0.0, self._due - time.monotonic()) * 1000 if self._due else None
            numbers = os.read(self._read, 64) if arriving.poll(left) else b""
            if STOP in numbers:
                return
            if not numbers or LOST in numbers:
                self._due = 0.0
                self._act()
            for number in NAMES.keys() & set(numbers):  # others that Python handles come by the pipe, too
                self._count(number)

    def _count(self, number: int) -> None:
        now = time.monotonic()
        if self.count and (number != signal.SIGINT or now - self._counted_at < SAME_SECONDS):
            return
        self.count, self._counted_at, self.number = self.count + 1, now, self.number or number
        self.work.tell(number, self.count)
        if self.count > 1:
            self._end_now(f"ended by a second Ctrl-C{', without saving' if self._waits() else ''}")
        waits = self._waits()
        # The main thread gets no Ctrl-C, and nothing that another process passes on.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if waits:
            self._due, self._act = now + SAME_SECONDS, self._tell_wait
        else:
            kill_children(self._started)  # the main thread may be waiting for them
            self._due, self._act = now + GRACE_SECONDS, lambda: self._end_now(f"ended by {NAMES[_cause()]}")

    def _tell_wait(self) -> None:
        doing = "the result is being written" if self.holds else self.work.doing
        again = "; Ctrl-C once more ends it at once, without that" if self.number == signal.SIGINT else ""
        if self._waits() and doing:
            say(f"{self.label or 'bertline'}: {NAMES[_cause()]} came: {doing}, then it ends{again}")

    def _end_now(self, how: str) -> None:
        """End the process from this thread, whatever the main one does; what is half made goes."""
        kill_children(self._started)
        if not self.label:  # a notebook's, or another program's: it goes on when the main thread comes out of the block
            return
        try:
            remove_drafts()
            say(f"{self.label}: {how}; {self.describe_kept()}")
            erase_progress()
        finally:
            os._exit(INTERRUPTED if self.number == signal.SIGINT else TRY_AGAIN)


def _cause() -> signal.Signals:
    """The signal that came, or that another host got."""
    return signal.Signals((_Listener.current and _Listener.current.number) or signal.SIGTERM)


def _forget() -> None:
    """In a forked worker, which inherits handlers, and the pipe by which they would tell its parent."""
    if _Listener.current is not None:
        signal.set_wakeup_fd(-1)
        for number, handler in _Listener.current.handlers_before.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else handler)
        _Listener.current = None


os.register_at_fork(after_in_child=_forget)
