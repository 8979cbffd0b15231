"""The end of this process, and of those that it has started."""

import os
import signal
import sys
from collections.abc import Collection
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


def kill_children(spared: Collection[int] = ()) -> None:
    """Kill what this process has started, and what that has, but for `spared` children and what those have started."""
    family = _list_family(spared) - {os.getpid()}
    for process in family:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def list_children() -> set[int]:
    """The process ids of the living children of this process."""
    own = os.getpid()
    return {process for process, parent in _read_parents().items() if parent == own}


def _list_family(spared: Collection[int]) -> set[int]:
    """This process, its children, theirs and so on."""
    parents = {process: parent for process, parent in _read_parents().items() if process not in spared}
    family = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _read_parents() -> dict[int, int]:
    """The parent of every process."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(status.parent.name)] = int(after_name[1])
    return parents
