"""Objects of a bucket, by Beam's file systems: what Dataflow's workers read and write in place of files."""

import io
import shutil
from pathlib import Path
from typing import BinaryIO

COPIED_AT_ONCE = 1 << 24  # bytes


def open_object(path: str) -> BinaryIO:
    """An object opened for reading."""
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    # Beam's reader of objects has no readline: io's would ask it for one byte at a time.
    return io.BufferedReader(FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def is_object(path: str) -> bool:
    """Whether there is such an object."""
    from apache_beam.io.filesystems import FileSystems

    return bool(FileSystems.exists(path))


def upload_object(file: Path, path: str) -> None:
    """Write an object of a file's content; OSError when the bucket refuses it."""
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
