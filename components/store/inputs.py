"""Inputs that lie in buckets: the files of this machine for what a gs:// uri names, brought when they are wanted.

They lie in `inputs/BUCKET/...` below the folder that BERTLINE_CACHE names, and come again once they are others there.
"""

import fnmatch
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from bertline.components.store.bucket import Bucket
from bertline.components.store.folder import ATTEMPT, INPUTS, SCHEME, Found, find_cache
from bertline.components.store.manifests import MANIFEST
from bertline.components.store.remote import open_store
from bertline.files import inside, require_inside

PATTERN = re.compile(r"[*?\[]")
PARTS_OF_ARTIFACT = 2  # <kind>/<fingerprint>, below a store


def bring(text: str) -> str:
    """Paths and patterns with commas, as a flag holds them: each gs:// uri in it replaced by paths of this machine.

    A uri names an object, a folder of objects (a model's), an artifact of a store, or objects by a pattern. Raises
    FileNotFoundError where there is nothing, OSError where the bucket cannot be reached.
    """
    if SCHEME not in text:
        return text
    return ",".join(path for part in text.split(",") for path in _bring_one(part.strip()))


def require_there(text: str) -> None:
    """Refuse gs:// uris, with commas, that name nothing (FileNotFoundError); nothing is brought."""
    for part in map(str.strip, text.split(",")):
        if part.startswith(SCHEME):
            _find(part)


def describe(uri: str) -> dict[str, str]:
    """Each object that a uri names, with its checksum."""
    bucket, _ = _split(uri)
    return {f"{bucket}/{each.name}": each.crc32c for each in _find(uri)}


def _bring_one(uri: str) -> list[str]:
    if not uri.startswith(SCHEME):
        return [uri]
    found = _find(uri)
    bucket, name = _split(uri)
    folder = find_cache() / INPUTS / bucket.bucket_name
    commit = next((each for each in found if each.name == f"{name}/{MANIFEST}" and ATTEMPT in each.notes), None)
    if commit is not None:
        store = open_store("/".join(uri.rstrip("/").split("/")[:-PARTS_OF_ARTIFACT]))
        artifact = store.folder_of(uri.rstrip("/"))
        store.fetch([artifact])
        return [str(artifact)]
    places = {each.name: inside(folder, each.name) for each in found}
    _carry(bucket, found, places)
    if found[0].name.startswith(f"{name}/") and not PATTERN.search(name):
        _remove_others(folder / name, set(places.values()))
        return [str(folder / name)]
    return [str(place) for place in places.values()]


def _split(uri: str) -> tuple[Bucket, str]:
    """The whole bucket, and what is named in it."""
    whole, _, name = uri.removeprefix(SCHEME).partition("/")
    if not name.strip("/"):
        raise ValueError(f"{uri}: names a bucket alone; give what lies in it")
    require_inside(name.rstrip("/"))
    return Bucket(SCHEME + whole), name.rstrip("/")


def _find(uri: str) -> list[Found]:
    """The objects that a uri names, one at least."""
    bucket, name = _split(uri)
    pattern = PATTERN.search(name)
    if pattern is None:
        listed = [each for each in bucket.list(name) if f"{each.name}/".startswith(f"{name}/")]
        found = [each for each in listed if each.name == name] or listed
    else:
        listed, depth = list(bucket.list(name[: pattern.start()])), len(PurePosixPath(name).parts)
        found = [each for each in listed if each.name == name] or [  # "Who is it?.txt" is a name, too
            each
            for each in listed
            if fnmatch.fnmatchcase(each.name, name) and len(PurePosixPath(each.name).parts) == depth
        ]
    found = [each for each in found if not each.name.endswith("/")]  # what consoles put in place of a folder
    if not found:
        raise FileNotFoundError(f"{uri}: nothing is called so in the bucket")
    return found


def _carry(bucket: Bucket, found: Iterable[Found], places: Mapping[str, Path]) -> None:
    """Bring the objects that are not in their places as they are there: of the same size and time."""
    lacking = {}
    for each in found:
        path = places[each.name]
        _clear_way(path)
        stat = path.stat() if path.is_file() else None
        if stat is None or (stat.st_size, round(stat.st_mtime, 3)) != (each.size_bytes, round(each.updated, 3)):
            lacking[each.name] = (path, each.updated)
    bucket.download({name: path for name, (path, _) in lacking.items()}, "inputs: from the bucket")
    for path, updated in lacking.values():
        os.utime(path, (updated, updated))


def _clear_way(path: Path) -> None:
    """Remove a copy that stood where there is a folder now, or a folder of copies where there is an object."""
    if path.is_dir():
        shutil.rmtree(path)
    for parent in path.parents:
        if parent.is_file():
            parent.unlink()


def _remove_others(folder: Path, kept: set[Path]) -> None:
    """What the bucket's folder has no more."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
