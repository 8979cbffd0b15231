"""Waiting until what was written is on the disk, so that what could make it again may go."""

import errno
import os
from pathlib import Path

UNKNOWN_TO_FILE_SYSTEM = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # fsync, on some mounted over a network


def flush_to_disk(folder: Path) -> None:
    """Wait until the folder's files are on the disk, so that a rename after it never names cut ones.

    Raises OSError that names a file which could not be written.
    """
    for path in [*folder.iterdir(), folder]:
        flush(path)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's names, are on the disk; raises OSError that names it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN_TO_FILE_SYSTEM:
            raise unwritten(path, path.stat().st_size, error.strerror or error) from error
    finally:
        os.close(descriptor)


def unwritten(path: Path, size: int, reason: object) -> OSError:
    """The error of a file that could not be written whole."""
    return OSError(
        f"{path}: could not write {size:,} bytes ({reason}); is the disk full? Free space there and give the same "
        "command again"
    )
