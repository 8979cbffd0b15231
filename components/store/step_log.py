"""What a step on a cluster says, kept in the store of its run while it works: every platform's logs in one place.

Each try has a file of its own, runs/<run>/logs/<task>.<when it began>.log.
"""

import contextlib
import datetime
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from bertline.components.store.artifacts import Store
from bertline.preemption import PreemptedError
from bertline.processes import repeating

LOG = re.compile(r"(?P<task>[^/.]+)\.[^/.]+\.log")  # a file's name
LOGS = "logs"  # a run's folder of them
NOTED_AS = "noted_as"  # below a cluster's own name of a run: the name under which its notes and logs are
SECONDS_BETWEEN_LOOKS = 5.0


class _Tee:
    """A stream, all of which goes to a file, too."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk ends no step for its log's sake
            self._file.write(text)
            self._file.flush()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def keeping_log(store: Store, run: str, task: str) -> Iterator[None]:
    """Keep what Python writes to standard output and standard error in the block, and the error that ends it."""
    began = datetime.datetime.now(datetime.UTC)
    name = f"runs/{run}/{LOGS}/{task}.{began:%Y%m%d-%H%M%S-%f}.log"
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="replace") as file, _sharing(store, name):
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Tee(stream, file) for stream in streams)  # type: ignore[assignment]
        try:
            yield
        except PreemptedError as error:
            file.write(f"{task}: {error}\n")
            raise
        except Exception:
            traceback.print_exc(file=file)
            raise
        finally:
            sys.stdout, sys.stderr = streams
            file.flush()


@contextlib.contextmanager
def _sharing(store: Store, name: str) -> Iterator[None]:
    """Share a growing file now and then, and at the end."""
    path, shared = store.root / name, 0

    def share() -> None:
        nonlocal shared
        size = path.stat().st_size
        if size != shared:
            with contextlib.suppress(OSError):  # the next time
                store.share_note(name)
                shared = size

    try:
        with repeating(share, SECONDS_BETWEEN_LOOKS):
            yield
    finally:
        share()


def noted_name(objects: Any, run: str) -> str:
    """The name under which a run's notes and logs are kept: another one where a schedule has begun it."""
    try:
        name: str = objects.read(f"runs/{run}/{NOTED_AS}").decode()
    except FileNotFoundError:
        return run
    return name


def read_logs(objects: Any, run: str, task: str = "") -> Iterator[tuple[str, str]]:
    """The name and the text of each log of a run, or of one of its tasks, in the order in which they began."""
    prefix = f"runs/{noted_name(objects, run)}/{LOGS}/"
    found = [
        each
        for each in objects.list(prefix)
        if (name := LOG.fullmatch(each.name.removeprefix(prefix))) and task in ("", name["task"])
    ]
    for each in sorted(found, key=lambda each: each.name.split(".")[-2]):
        yield each.name.removeprefix(prefix), objects.read(each.name).decode(errors="replace")
