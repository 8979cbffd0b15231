"""The end of this process, and of those that it has started."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process without waiting for what libraries still do in threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    kill_children()
    os._exit(code)


def kill_children() -> None:
    """Kill what this process has started, and what that has."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(status.parent.name)] = int(after_name[1])
    family = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    for process in family - {os.getpid()}:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
