"""Files and folders that are there whole or not at all; names that stay below a folder, and JSON of a known shape."""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTS_OF_NO_NAME = ("", ".", "..")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DRAFT = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.tmp", re.DOTALL)
_open_drafts: set[Path] = set()  # that this process is writing
_dead_drafts: dict[Path, dict[str, list[Path]]] = {}  # folder -> name -> what killed processes have left of it
UNKNOWN_TO_FILE_SYSTEM = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # fsync, on some mounted over a network


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Where the block writes a file or makes a folder, which takes the place of `path` when the block ends.

    Until then, and where the block raises or is killed, `path` is what it was: a file, an empty folder or nothing. An
    error leaves no draft; that of a killed process is removed by the next one. A folder is on the disk before it gets
    its name. Raises OSError that names `path`, ValueError for one in a bucket.
    """
    require_of_this_machine(path)
    _remove_dead_drafts(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _open_drafts.add(draft)
    try:
        yield draft
        if draft.is_dir():
            for each in [*draft.rglob("*"), draft]:
                flush(each)
            draft.rename(path)
            flush(path.parent)
        else:
            draft.replace(path)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise unwritten(path, _size(draft), error.strerror) from error
        if str(error.filename) == str(draft):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        _remove(draft)
        _open_drafts.discard(draft)


@contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """While no other process of this machine, that asks for it likewise, changes a file or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_of_this_machine(path: Path) -> None:
    """Refuse a gs:// uri (ValueError), which would become a folder called "gs:"."""
    if path.parts and path.parts[0].lower() == "gs:":
        uri = f"gs://{'/'.join(path.parts[1:])}"
        raise ValueError(f"{uri}: a folder of this machine is wanted; a bucket is for --out of `bertline run`")


def remove_drafts() -> None:
    """Remove what this process is writing, before it ends in the middle of it."""
    for draft in list(_open_drafts):
        _remove(draft)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8; at no moment is there half of it."""
    with draft_of(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def _remove_dead_drafts(path: Path) -> None:
    """Drafts of processes that were killed; one whose process still lives is left alone.

    One with this process's number is of another that had it before: a container that starts again counts from 1.
    """
    for draft in _list_dead_drafts(path.parent.absolute()).pop(path.name, []):
        _remove(draft)


def _list_dead_drafts(folder: Path) -> dict[str, list[Path]]:
    """Name -> its drafts, of what was left in a folder when this process first wrote there.

    A folder is looked through once: for each of ten thousand shards, it would take longer than to make them.
    """
    if folder not in _dead_drafts:
        found: dict[str, list[Path]] = {}
        with suppress(OSError):  # what cannot be listed will be told when it is written to
            own = {each.absolute() for each in _open_drafts.copy()}
            for path in folder.iterdir():
                draft = DRAFT.fullmatch(path.name)
                if draft and path not in own and _is_dead(int(draft["process"])):
                    found.setdefault(draft["name"], []).append(path)
            _dead_drafts.setdefault(folder, found)
        return found
    return _dead_drafts[folder]


def _is_dead(process: int) -> bool:
    return process == os.getpid() or not Path(f"/proc/{process}").exists()


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def _size(draft: Path) -> int:
    return sum(file.stat().st_size for file in [draft, *draft.rglob("*")] if file.is_file())


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


class FileName(str):
    """In a shape: a text that names a file below a folder."""


def parse_document(content: bytes | str, where: object, shape: Any, advice: str = "") -> Any:
    """The value of a JSON text; ValueError that says `where` it is damaged and what to do, unless it is of the shape.

    A shape is a type, a list with the shape of each entry, a dict with those of its keys ("pages?" may be absent), or
    a dict with the shape of any key and that of its value.
    """
    try:
        value = json.loads(content)
        _require_shape(value, shape, "it")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: damaged ({error})" + (f"; {advice}" if advice else "")) from error
    return value


def _require_shape(value: Any, shape: Any, name: str) -> None:
    kind: Any = str if shape is FileName else shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is no {kind.__name__}")
    if shape is FileName:
        require_inside(value)
    elif isinstance(shape, list):
        for each in value:
            _require_shape(each, shape[0], f"an entry of {name}")
    elif isinstance(shape, dict):
        _require_keys(value, shape, name)


def _require_keys(value: Any, shape: Any, name: str) -> None:
    for key, wanted in shape.items():
        if isinstance(key, type):
            for any_key, each in value.items():
                _require_shape(any_key, key, "a key")
                _require_shape(each, wanted, any_key)
        elif key.removesuffix("?") in value:
            _require_shape(value[key.removesuffix("?")], wanted, key.removesuffix("?"))
        elif not key.endswith("?"):
            raise ValueError(f"{name} has no {key}")


def inside(folder: Path, name: str) -> Path:
    """The file of that name, with slashes, below a folder; ValueError where it would lie elsewhere.

    >>> inside(Path("out"), "part/0.txt")
    PosixPath('out/part/0.txt')
    """
    require_inside(name)
    return folder / name


def require_inside(name: str) -> None:
    """Refuse a name that leads out of the folder which it is put into, or is another way to write one that does not."""
    if any(part in PARTS_OF_NO_NAME for part in name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file below a folder")
