"""Threads that end a process when another one has ended; part of the code that makes records, so kept small."""

import os
import threading
import time
from collections.abc import Callable

SECONDS_BETWEEN_LOOKS = 0.5


def end_with_parent() -> None:
    """Let this process, a worker's, end soon after its parent, however that ended: an initializer of process pools."""
    parent = os.getppid()
    watch(lambda: os.getppid() != parent, lambda: os._exit(1))


def watch(happened: Callable[[], bool], act: Callable[[], None]) -> None:
    """Do `act` once `happened` says so, in a thread that ends with the process."""

    def look() -> None:
        while not happened():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        act()

    threading.Thread(target=look, daemon=True).start()
