"""A released zip -> its checkpoint's files in a temporary folder; whatever a zip could do beyond that is refused."""

import errno
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from bertline.model.formats.files import refuse_pointer

# The files of a TF1 checkpoint and its companions; the rest (.meta, licences, macOS's own) stays in the zip.
NEEDED = ("*.index", "*.data-?????-of-?????", "*.json", "*.txt", "checkpoint")
INDEX = "*.index"
ENCRYPTED = 0x1  # of a member's flags
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_BYTES = 32 << 30  # unpacked; BERT-Large with Adam's slots has 4 GB
# Weights compress by a tenth. Small files may do better without harm.
MOST_TIMES_SMALLER, SMALL_BYTES = 100, 64 << 20
COPY_BYTES = 1 << 20
# What zipfile raises for damaged bytes, found by flipping them: OSError where an offset became negative.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, UnicodeDecodeError, OSError)
ZIP_START = b"PK\x03\x04"
SHOWN = 5  # members named in a message
AGAIN = "download or copy it again"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of the one checkpoint in a zip, for as long as the context lasts.

    Errors raised inside name the zip where they name the temporary folder. Raises FileNotFoundError for a missing
    file, ValueError, naming the zip and the member, for what is no whole zip, for a zip that writes outside of its
    folder, is encrypted or far larger than a model, and for one without a checkpoint or with several; OSError when
    the temporary folder has too little room.
    """
    with tempfile.TemporaryDirectory(prefix="bertline-") as name:
        try:
            yield _unpacked_into(Path(name), path)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(name, str(path))) from error


def _unpacked_into(folder: Path, path: Path) -> Path:
    with _opened(path) as archive:
        _refuse_unsafe(archive, path)
        members, inner = _needed(archive, path)
        _refuse_no_room(members, path, folder)
        target = folder / inner
        target.mkdir(exist_ok=True)
        for member in members:
            _unpack(archive, member, target, path)
    return target


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such zip")
    refuse_pointer(path)
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        _pass_on_disk_errors(error)
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(ZIP_START):
            raise ValueError(f"{path}: a zip that is cut or damaged ({error}); {AGAIN}") from error
        what = "a web page" if start.startswith(b"<") else "another kind of file"
        raise ValueError(f"{path}: no zip, but {what}; {AGAIN}") from error
    with archive:
        yield archive


def _refuse_unsafe(archive: zipfile.ZipFile, path: Path) -> None:
    seen: set[str] = set()
    for member in archive.infolist():
        reason = _unsafe(member)
        place = str(PurePosixPath(member.filename)).casefold()  # some disks do not tell A from a
        if not reason and place in seen:
            reason = "is there twice"
        if reason:
            raise ValueError(f'{path}: its member "{member.orig_filename}" {reason}; a released zip has none of that')
        seen.add(place)
    size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{path}: would unpack to {size:,} bytes; no model is read that is above {MOST_BYTES:,}")


def _unsafe(member: zipfile.ZipInfo) -> str:
    """Why a member is not unpacked; empty for an ordinary one."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "has an absolute name"
    if "\\" in name or "\0" in name:
        return "has a backslash or a zero byte in its name"
    if ".." in PurePosixPath(name).parts:
        return "lies outside of its folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is no ordinary file"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.file_size > SMALL_BYTES and member.file_size > MOST_TIMES_SMALLER * member.compress_size:
        return f"would unpack to {member.file_size:,} bytes from {member.compress_size:,}"
    return ""


def _needed(archive: zipfile.ZipFile, path: Path) -> tuple[list[zipfile.ZipInfo], str]:
    """The members to unpack, and the name of the folder in the zip that they lie in ("" for its top)."""
    files = [member for member in archive.infolist() if not member.is_dir() and _ours(member)]
    folders = sorted({_folder(member) for member in files if fnmatchcase(_name(member), INDEX)})
    if not folders:
        raise ValueError(f"{path}: holds no TF1 checkpoint, none of its files is {INDEX}; {_held(files)}")
    if len(folders) > 1:
        where = ", ".join(folder or "its top" for folder in folders)
        raise ValueError(f"{path}: holds several checkpoints, in {where}; unpack it and give one folder")
    (folder,) = folders
    wanted = [
        member
        for member in files
        if _folder(member) == folder and any(fnmatchcase(_name(member), pattern) for pattern in NEEDED)
    ]
    return wanted, PurePosixPath(folder).name


def _held(files: Sequence[zipfile.ZipInfo]) -> str:
    names = [member.filename for member in files]
    if any(name.endswith(".zip") for name in names):
        return "it holds other zips: unpack it and give one of them"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"it holds {', '.join(names[:SHOWN])}{more}" if names else "it is empty"


def _ours(member: zipfile.ZipInfo) -> bool:
    """Whether a file is none of those that macOS adds beside the real ones."""
    return not member.filename.startswith("__MACOSX/") and not _name(member).startswith("._")


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name


def _folder(member: zipfile.ZipInfo) -> str:
    folder = str(PurePosixPath(member.filename).parent)
    return "" if folder == "." else folder


def _refuse_no_room(members: Sequence[zipfile.ZipInfo], path: Path, folder: Path) -> None:
    size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"{path}: needs {size:,} bytes unpacked, {folder.parent} has {free:,}; "
            "name a folder with more room by TMPDIR, or unpack the zip and give its folder"
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, path: Path) -> None:
    """Write one member; the checksum is compared at its end."""
    if member.compress_type not in METHODS:
        raise ValueError(f'{path}: its member "{member.filename}" is packed by a method that is not read here')
    try:
        with archive.open(member) as packed, (folder / _name(member)).open("wb") as file:
            shutil.copyfileobj(packed, file, COPY_BYTES)
    except DAMAGE as error:
        _pass_on_disk_errors(error)
        raise ValueError(f'{path}: its member "{member.filename}" is damaged ({error}); {AGAIN}') from error


def _pass_on_disk_errors(error: Exception) -> None:
    """Raise again what is the disk's fault, not the zip's."""
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        raise error
