"""Files as Beam's workers see them: on this machine, or in a bucket that it has mounted.

A store on Google Cloud is mounted at /gcs/BUCKET for the process that starts a pipeline; Dataflow's workers have
no mount and reach the same files as gs://BUCKET.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bertline.files import draft_of

PROCESSES = "processes"  # no runner of Beam's: a pool of processes on this machine
LOCAL_RUNNERS = (
    PROCESSES,
    "FnApiRunner",
    "DirectRunner",
    "PrismRunner",
    "SwitchingDirectRunner",
    "BundleBasedDirectRunner",
)
MOUNT, BUCKETS = "/gcs/", "gs://"
COPIED_AT_ONCE = 1 << 24  # bytes


def is_local(runner: str) -> bool:
    """Whether a runner's workers are processes of this machine."""
    return runner in LOCAL_RUNNERS


def for_workers(path: Path, runner: str) -> str:
    """The name under which `runner`'s workers find `path`.

    Raises ValueError for a path of this machine alone, which workers elsewhere cannot reach.
    """
    if is_local(runner):
        return str(path)
    if not str(path).startswith(MOUNT):
        raise ValueError(
            f"{path}: {runner}'s workers cannot reach it; keep inputs and outputs below {MOUNT}BUCKET, "
            f"or take a runner of this machine: {', '.join(LOCAL_RUNNERS)}"
        )
    return BUCKETS + str(path).removeprefix(MOUNT)


def require_reachable(path: Path, runner: str) -> None:
    """Refuse a path that `runner`'s workers cannot reach (ValueError)."""
    for_workers(path, runner)


def open_bytes(path: str) -> BinaryIO:
    """A file opened for reading, wherever it lies."""
    if "://" not in path:
        return Path(path).open("rb")
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    # Beam's reader of objects has no readline: io's would ask it for one byte at a time.
    return io.BufferedReader(FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def exists(path: str) -> bool:
    """Whether there is such a file."""
    if "://" not in path:
        return Path(path).is_file()
    from apache_beam.io.filesystems import FileSystems

    return bool(FileSystems.exists(path))


@contextmanager
def draft_for(path: str) -> Iterator[Path]:
    """Where the block writes what becomes `path` when it ends: nobody sees a part of it.

    It lies beside `path`, or on the worker's own disk for a bucket. Raises OSError when a bucket refuses it.
    """
    if "://" not in path:
        with draft_of(Path(path)) as draft:
            yield draft
        return
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.rpartition("/")[2]
        yield draft
        _upload(draft, path)


def _upload(file: Path, path: str) -> None:
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems
    from google.cloud.storage.exceptions import InvalidResponse  # type: ignore[import-untyped]

    try:
        with (
            file.open("rb") as source,
            FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as target,
        ):
            shutil.copyfileobj(source, target, COPIED_AT_ONCE)
    except InvalidResponse as error:  # which does not say what was to be written
        status = error.response.status_code
        raise OSError(f"{path}: not written, the bucket answers {status}; may the workers write there?") from error
