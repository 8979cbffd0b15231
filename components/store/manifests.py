"""Manifests: a directory is a whole artifact once it has a MANIFEST.json; their digests are the lineage.

MANIFEST.json holds what depends on inputs and parameters alone, so that the same input and seed give
the same bytes whatever the machine or the number of workers. What differs between runs (times,
versions, volatile parameters) stands beside it in RUN.json.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bertline.files import FileName, parse_document

MANIFEST = "MANIFEST.json"
RUN = "RUN.json"
IN_BUCKET = ".in_bucket.json"  # in a draft: its files that others have put into the bucket of its store
FACTS = ".facts.json"  # in a draft: more facts for RUN.json
# What all manifests say at least.
SHAPE = {
    **dict.fromkeys(("kind", "step", "digest", "fingerprint"), str),
    "inputs": [{"name": str, "kind": str, "digest": str, "file": str}],
    **dict.fromkeys(("parameters", "counts"), dict),
    "files": [{"path": FileName, "size_bytes": int, "sha256": str}],
    "pages?": [FileName],
}
PAGE = ".html"  # the ending of files that show what an artifact holds: beside it, outside its digest, never checked


def read_manifest(path: Path, kind: str | None = None) -> dict[str, Any]:
    """The manifest of the artifact at `path`, or of a folder inside one (the best weights of a checkpoint).

    The latter has the files and the digest of that folder, and as `part_of` the artifact's. Raises
    FileNotFoundError for a missing folder and ValueError for one without a manifest (an interrupted or foreign
    folder) or of another kind than `kind` (a prefix: "records").
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such artifact; is the path right, and has its step been run?")
    if not (path / MANIFEST).is_file():
        return _manifest_of_part(path, kind)
    again = f"remove {path} and run its step again"
    manifest = parse_manifest((path / MANIFEST).read_bytes(), path / MANIFEST, again)
    if kind is not None and not manifest["kind"].startswith(kind):
        raise ValueError(f'{path}: holds "{manifest["kind"]}" where "{kind}" is wanted')
    return manifest


def parse_manifest(content: bytes, where: object, advice: str = "") -> dict[str, Any]:
    """A manifest's facts; ValueError where it does not hold them, or names a file outside its artifact."""
    manifest: dict[str, Any] = parse_document(content, where, SHAPE, advice)
    return manifest


def _manifest_of_part(path: Path, kind: str | None) -> dict[str, Any]:
    if (path.parent / MANIFEST).is_file():
        whole, inside = read_manifest(path.parent, kind), f"{path.name}/"
        files = [
            each | {"path": each["path"].removeprefix(inside)}
            for each in whole["files"]
            if each["path"].startswith(inside)
        ]
        if files:
            return whole | {"files": files, "digest": digest_of(files), "part_of": whole["digest"]}
    raise ValueError(f"{path}: not an artifact (no {MANIFEST}); it is not whole, or bertline did not write it")


def verify(path: Path) -> dict[str, Any]:
    """The manifest of `path` after every file's size and sha256 was found as it says; ValueError otherwise."""
    manifest = read_manifest(path)
    for entry in manifest["files"]:
        file = path / entry["path"]
        if not file.is_file():
            raise ValueError(f"{file}: missing; remove {path} and run its step again")
        if file.stat().st_size != entry["size_bytes"] or sha256_of(file) != entry["sha256"]:
            raise ValueError(f"{file}: differs from its manifest; remove {path} and run its step again")
    return manifest


def describe(path: Path) -> dict[str, str]:
    """Kind and digest of an input: an artifact's from its manifest, a plain file's from its bytes."""
    if path.is_dir():
        manifest = read_manifest(path)
        return {key: manifest[key] for key in ("kind", "digest", "part_of") if key in manifest}
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of an existing input")
    return {"kind": "file", "digest": f"sha256:{sha256_of(path)}"}


def label_files(paths: Sequence[Path]) -> list[str]:
    """Names that tell the files of one input apart: as many of the folders above them as that takes, the same for all.

    >>> label_files([Path("/data/en/text.txt"), Path("/data/de/text.txt")])
    ['en/text.txt', 'de/text.txt']
    """
    parts = [path.absolute().parts[1:] for path in paths]
    labels, count = [path.name for path in paths], 1
    while len(set(labels)) < len(set(parts)):
        count += 1
        labels = ["/".join(each[-count:]) for each in parts]
    return labels


def find_made_files(manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of each artifact that is one file: the digest by which a copy is recorded as input -> that of the artifact.

    So `--vocab vocab.txt` leads to the vocabulary that `bertline vocab --out vocab.txt` learned; a released one, which
    `bertline vocab --released` copies, was made by neither.
    """
    made = {}
    for manifest in manifests:
        digests = [f"sha256:{file['sha256']}" for file in manifest["files"]]
        given = [each["digest"] for each in manifest["inputs"]]
        if len(digests) == 1 and digests[0] not in given:
            made[digests[0]] = manifest["digest"]
    return made


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size_bytes: int, modified_ns: int) -> str:
    """Read once, though a large dump is asked for several times; an edited file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crawl(root: Path) -> Iterator[Path]:
    """Every whole artifact below `root`, in order of path; drafts and work folders are passed over."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and not name.endswith(".work"))
        if MANIFEST in files:
            subfolders.clear()
            yield Path(folder)


def digest_of(files: Sequence[Mapping[str, Any]]) -> str:
    """An artifact's digest, of its files' paths and sha256."""
    content = hashlib.sha256(json.dumps([(each["path"], each["sha256"]) for each in files]).encode())
    return f"sha256:{content.hexdigest()}"
