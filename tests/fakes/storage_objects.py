"""What Cloud Storage keeps: buckets with objects, their generations and versions, and the preconditions it honours.

A bucket is a folder and an object a file in it, so that the root is at the same time what a mount of all buckets shows.
What a mount cannot show (generations, checksums, metadata, noncurrent versions) is kept in memory.
"""

import base64
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

HIDDEN = ".hidden"  # no bucket: names of buckets start with a letter or a digit
GIVEN = ("metadata", "contentType", "cacheControl", "customTime")  # what a client may say of an object
LONGEST_NAME_BYTES = 1024
MOST_COMPOSED = 32
Query = Mapping[str, str]


class RefusedError(Exception):
    """What the server answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Version:
    """One generation of an object."""

    name: str
    path: Path
    generation: int
    checksums: dict[str, str]
    about: dict[str, Any]
    metageneration: int = 1
    deleted: float = 0.0  # when it became noncurrent; 0: it is live

    def metadata(self, bucket: str) -> dict[str, Any]:
        """The resource of the JSON API."""
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "bucket": bucket,
            "name": self.name,
            "size": str(self.path.stat().st_size),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "timeCreated": _timestamp(self.generation / 1e9),
            "updated": _timestamp(self.generation / 1e9),
            **({"timeDeleted": _timestamp(self.deleted)} if self.deleted else {}),
            **self.checksums,
            **self.about,
        }


@dataclass
class Bucket:
    """One bucket; all that it does is done under the lock."""

    name: str
    root: Path
    about: dict[str, Any] = field(default_factory=dict)
    metageneration: int = 1
    live: dict[str, Version] = field(default_factory=dict)
    noncurrent: list[Version] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    newest: int = 0

    @property
    def folder(self) -> Path:
        """Where the live objects lie."""
        return self.root / self.name

    @property
    def keeps_versions(self) -> bool:
        """Whether what is overwritten or deleted stays as a noncurrent version."""
        return bool(self.about.get("versioning", {}).get("enabled"))

    def metadata(self) -> dict[str, Any]:
        """The resource of the JSON API."""
        fixed = {"kind": "storage#bucket", "name": self.name, "metageneration": str(self.metageneration)}
        return {"softDeletePolicy": {"retentionDurationSeconds": "0"}, **self.about, **fixed}

    def find(self, name: str, query: Query) -> Version:
        """The live version, or that of the generation asked for; 404 where there is none."""
        with self.lock:
            if "generation" in query:
                wanted, every = int(query["generation"]), [*self.noncurrent, *self._all_live()]
                found = [each for each in every if each.name == name and each.generation == wanted]
                version = found[0] if found else None
            else:
                version = self._find_live(name)
            if version is None:
                raise RefusedError(404, f"No such object: {self.name}/{name}")
            _check(version, query)
            return version

    def write(self, name: str, content: bytes, about: Mapping[str, Any], query: Query) -> dict[str, Any]:
        """A new generation; 412 where the precondition does not hold, 400 for content of other checksums."""
        if not name or len(name.encode()) > LONGEST_NAME_BYTES or "\n" in name or "\r" in name:
            raise RefusedError(400, f"Invalid object name: {name!r}")
        checksums = {
            "crc32c": base64.b64encode(google_crc32c.Checksum(content).digest()).decode(),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
        }
        for kind, found in checksums.items():
            if about.get(kind, found) != found:
                raise RefusedError(400, f"Provided {kind} {about[kind]} does not match the content's, {found}")
        draft = self.root / HIDDEN / uuid.uuid4().hex
        draft.parent.mkdir(exist_ok=True)
        draft.write_bytes(content)
        with self.lock:
            before = self._find_live(name)
            _check(before, query)
            self._retire(before)
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)
            given = {key: about[key] for key in GIVEN if key in about}
            self.live[name] = Version(name, path, self._next_generation(), checksums, given)
            _stamp(self.live[name])
            return self.live[name].metadata(self.name)

    def patch(self, name: str, about: Mapping[str, Any], query: Query) -> dict[str, Any]:
        """Change what is said of an object."""
        with self.lock:
            version = self.find(name, query)
            version.about |= {key: about[key] for key in GIVEN if key in about}
            version.metageneration += 1
            return version.metadata(self.name)

    def delete(self, name: str, query: Query) -> None:
        """Make the live version noncurrent, where versions are kept; remove it, or the generation named."""
        with self.lock:
            version = self.find(name, query)
            if "generation" in query and version in self.noncurrent:
                self.noncurrent.remove(version)
                version.path.unlink()
                return
            self._retire(version)
            del self.live[name]

    def compose(self, name: str, sources: list[Mapping[str, Any]], about: Mapping[str, Any], query: Query) -> Any:
        """An object of the sources' content, one after the other."""
        if not 0 < len(sources) <= MOST_COMPOSED:
            raise RefusedError(400, f"The number of source components must be 1 to {MOST_COMPOSED}")
        with self.lock:
            parts = [self.find(each["name"], _of_source(each)).path.read_bytes() for each in sources]
            return self.write(name, b"".join(parts), about, query)

    def list_page(self, query: Query) -> dict[str, Any]:
        """A page of objects in order of name, and of the prefixes up to the delimiter."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        with self.lock:
            kept = self.noncurrent if query.get("versions", "").lower() == "true" else []
            versions = self._all_live(prefix.rpartition("/")[0]) + kept
        entries: dict[tuple[str, int], Version | None] = {}
        for each in versions:
            if not each.name.startswith(prefix) or not _is_listed(each.name, query):
                continue
            inside, found, _ = each.name.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
            key = (f"{prefix}{inside}{delimiter}", 0) if found else (each.name, each.generation)
            entries[key] = None if found else each
        page, rest = _cut(sorted(entries), query)
        shown = [entries[key] for key in page]
        return {
            "kind": "storage#objects",
            "items": [each.metadata(self.name) for each in shown if each is not None],
            "prefixes": [name for name, _ in page if entries[(name, _)] is None],
            **({"nextPageToken": rest} if rest else {}),
        }

    def _all_live(self, folder: str = "") -> list[Version]:
        """All below a folder, also those that came through the mount."""
        names = [str(path.relative_to(self.folder)) for path in (self.folder / folder).rglob("*") if path.is_file()]
        return [version for name in names if (version := self._find_live(name)) is not None]

    def _find_live(self, name: str) -> Version | None:
        path = self.folder / name
        if not path.is_file():
            self.live.pop(name, None)
            return None
        changed, known = path.stat().st_mtime_ns, self.live.get(name)
        if known is None or known.generation != changed:  # written through the mount
            content = path.read_bytes()
            crc32c = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
            self.live[name] = Version(name, path, changed, {"crc32c": crc32c}, {})
        return self.live[name]

    def _retire(self, version: Version | None) -> None:
        if version is None:
            return
        if self.keeps_versions:
            kept = self.root / HIDDEN / f"{uuid.uuid4().hex}-{version.generation}"
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(version.path, kept)
            self.noncurrent.append(
                Version(
                    version.name,
                    kept,
                    version.generation,
                    version.checksums,
                    version.about,
                    version.metageneration,
                    time.time(),
                )
            )
        version.path.unlink()

    def _next_generation(self) -> int:
        self.newest = max(time.time_ns(), self.newest + 1)
        return self.newest


def _check(version: Version | None, query: Query) -> None:
    """412, or 304 for the negative forms, where a precondition does not hold of the version there is."""
    found = {
        "Generation": 0 if version is None else version.generation,
        "Metageneration": 0 if version is None else version.metageneration,
    }
    for kind, number in found.items():
        if int(query.get(f"if{kind}Match", number)) != number:
            raise RefusedError(
                412, f"At least one of the pre-conditions you specified did not hold: {kind} is {number}"
            )
        if f"if{kind}NotMatch" in query and int(query[f"if{kind}NotMatch"]) == number:
            raise RefusedError(304, f"{kind} is {number}")


def _of_source(source: Mapping[str, Any]) -> dict[str, str]:
    """The query that a source of a composition stands for."""
    condition = source.get("objectPreconditions", {}).get("ifGenerationMatch")
    return {
        **({"generation": str(source["generation"])} if source.get("generation") else {}),
        **({"ifGenerationMatch": str(condition)} if condition is not None else {}),
    }


def _is_listed(name: str, query: Query) -> bool:
    pattern = query.get("matchGlob", "")
    if pattern and not re.fullmatch(_glob_to_pattern(pattern), name):
        return False
    return query.get("startOffset", "") <= name and (not query.get("endOffset") or name < query["endOffset"])


def _glob_to_pattern(glob: str) -> str:
    """A backslash before a character lets it mean itself."""
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\\.|\*\*|\*|\?)", glob)
    return "".join(parts.get(each, re.escape(each[1:] if each.startswith("\\") else each)) for each in pieces)


def _cut(keys: list[tuple[str, int]], query: Query) -> tuple[list[tuple[str, int]], str]:
    """A page of the keys, and the token of the next one."""
    first, most = int(query.get("pageToken") or 0), int(query.get("maxResults") or 1000)
    return keys[first : first + most], str(first + most) if len(keys) > first + most else ""


def _stamp(version: Version) -> None:
    """The file's time is the generation: files of the mount have no other."""
    os.utime(version.path, ns=(version.generation, version.generation))


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
