"""This process's end and that of those that it has started, and its threads."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

PARENT, STARTED = 1, 19  # fields of /proc/<process>/stat after the name; the latter in ticks since the machine's start


def leave(code: int) -> NoReturn:
    """End the process without waiting for what libraries still do in threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    kill_children()
    os._exit(code)


def join_thread(thread: threading.Thread) -> None:
    """Wait until a thread has ended and the process is rid of it, which takes a moment more."""
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        time.sleep(0)


@contextmanager
def repeating(act: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something over and over while the block runs, in a thread, so many seconds after it was done."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def kill_children(since: float = 0.0) -> None:
    """Kill what this process has started from a moment on (seconds of CLOCK_BOOTTIME), and what that has started."""
    first_tick = int(since * os.sysconf("SC_CLK_TCK"))
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(after_name[STARTED]) >= first_tick:
            parents[int(status.parent.name)] = int(after_name[PARENT])
    family = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    for process in family - {os.getpid()}:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
