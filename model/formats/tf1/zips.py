"""A released zip -> its checkpoint's files in a temporary folder.

`zipfile` keeps members inside of the folder whatever their names say, writes no links, compares checksums, and never
unpacks more bytes than a member announces.
"""

import errno
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from bertline.model.formats.files import name_some, require_fetched

# The files of a TF1 checkpoint and its companions; the rest (.meta, licences) stays in the zip.
NEEDED = ("*.index", "*.data-?????-of-?????", "*.json", "*.txt", "checkpoint")
MOST_BYTES = 32 << 30  # unpacked; BERT-Large with Adam's slots has 4 GB
# What zipfile raises for damaged bytes, found by flipping them; an OSError (EINVAL) for a negative offset.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, UnicodeDecodeError, OSError)


@contextmanager
def unpack_checkpoint(path: Path) -> Iterator[Path]:
    """The folder of the one checkpoint in a zip, for as long as the context lasts.

    Errors raised inside name the zip where they name the temporary folder. Raises FileNotFoundError for a missing
    file, ValueError for a file that is not a whole zip, far larger than a model, or without exactly one checkpoint,
    OSError when the temporary folder has too little room.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such zip")
    require_fetched(path)
    with tempfile.TemporaryDirectory(prefix="bertline-") as name:
        try:
            yield _unpack(path, Path(name))
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(name, str(path))) from error


def _unpack(path: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _choose_members(archive.infolist(), path)
            _require_room(sum(member.file_size for member in members), path, folder)
            files = [Path(archive.extract(member, folder)) for member in members]
            return files[0].parent
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # the disk's fault
            raise
        with path.open("rb") as file:
            start = file.read(20)
        reason = error if start.startswith(b"PK") else f"it begins with {start!r}"
        raise ValueError(f"{path}: not a whole, plain zip ({reason}); download or copy it again") from error


def _choose_members(members: Sequence[zipfile.ZipInfo], path: Path) -> list[zipfile.ZipInfo]:
    """The files of the one checkpoint; without those that macOS adds beside the real ones."""
    places = {PurePosixPath(member.filename): member for member in members if not member.is_dir()}
    places = {place: each for place, each in places.items() if "__MACOSX" not in place.parts and place.name[:2] != "._"}
    folders = sorted({str(place.parent) for place in places if place.suffix == ".index"})
    if len(folders) > 1:
        raise ValueError(f"{path}: holds several checkpoints, in {', '.join(folders)}; unpack it and give one folder")
    if not folders:
        held = name_some([*places], shown=5) or "nothing"
        raise ValueError(f"{path}: holds no TF1 checkpoint (*.index), but {held}; a zip in it must be unpacked first")
    return [
        member
        for place, member in places.items()
        if str(place.parent) == folders[0] and any(fnmatchcase(place.name, pattern) for pattern in NEEDED)
    ]


def _require_room(size: int, path: Path, folder: Path) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"{path}: would unpack to {size:,} bytes; models of up to {MOST_BYTES:,} are read")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"{path}: needs {size:,} bytes unpacked, {folder.parent} has {free:,}; "
            "name a folder with more room by TMPDIR, or unpack the zip and give its folder"
        )
