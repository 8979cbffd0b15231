"""A store in a bucket, and the folder of this machine through which steps use it.

    <kind>/<fingerprint>/MANIFEST.json    the commit: written last, by one upload that of several writers one wins
    <kind>/<fingerprint>/<attempt>/...    the files; the commit names the attempt they are of
    resume/<kind>/<fingerprint>/...       what survives a kill while the artifact is made

A finished artifact is known here by its manifest alone; its files come when a step needs them, are verified, and stay
within the folder's budget. An artifact whose objects are not what its commit says is made again.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bertline.components.store.artifacts import Artifact, Provenance, Store, read_files_in_bucket, work_folder
from bertline.components.store.bucket import Bucket, ChangedError, crc32c_of
from bertline.components.store.folder import ATTEMPT, ORIGIN, RESUME, SCHEME, Found, find_cache, read_origin
from bertline.components.store.manifests import IN_BUCKET, MANIFEST, RUN, parse_manifest, read_manifest, verify
from bertline.components.store.mirror import WorkMirror
from bertline.files import alone_at, draft_of, inside, parse_document, write_whole
from bertline.progress import say

OBJECTS = "OBJECTS.json"  # in an attempt: its objects, the manifest among them, and their checksums
DEFAULT_BUDGET_BYTES = 200 << 30
COMMITS = f"*/*/{MANIFEST}"


@dataclass(frozen=True)
class BucketStore(Store):
    """The store below a gs:// uri; `root` is a folder for this machine's copies, of at most `budget_bytes`."""

    bucket: Bucket
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    is_shared: ClassVar[bool] = False

    def uri_of(self, folder: Path) -> str:
        """Where an artifact of this machine's folder lies for others."""
        return f"{self.bucket.uri.rstrip('/')}/{folder.relative_to(self.root)}"

    def folder_of(self, uri: str) -> Path:
        """The folder for an artifact of the bucket, with its manifest alone; FileNotFoundError where there is none."""
        prefix = f"{self.bucket.uri.rstrip('/')}/"
        if not uri.startswith(prefix):
            raise ValueError(f"{uri}: not in the store {self.bucket.uri}")
        folder = inside(self.root, uri.removeprefix(prefix))
        commit = self.bucket.find(f"{self._name_of(folder)}/{MANIFEST}")
        if commit is None:
            raise FileNotFoundError(f"{uri}: no such artifact; has its step been run?")
        self._take_manifest(folder, commit)
        return folder

    @property
    def objects(self) -> Bucket:
        """The small files of the store: notes of runs, refs."""
        return self.bucket

    def share_note(self, name: str) -> None:
        """Carry a small file that was written here to the bucket."""
        self.bucket.write(name, (self.root / name).read_bytes())

    def require_writable(self) -> None:
        """Refuse a bucket that is not there or that nothing can be written to, and a cache likewise."""
        super().require_writable()
        self.write_note(f"{RESUME}/.writable", "")

    def take_manifests(self) -> None:
        """Bring the manifests of all artifacts here; those that are gone or damaged are left out."""
        for commit in self.bucket.list_matches(COMMITS):
            try:
                self._take_manifest(inside(self.root, commit.name).parent, commit)
            except FileNotFoundError:
                continue
            except ValueError as error:
                say(f"{error}; it is left out")

    def find(self, provenance: Provenance) -> Artifact | None:
        """The committed artifact, if there is one and its objects are what the commit says."""
        folder = self.place(provenance)
        commit = self.bucket.find(f"{self._name_of(folder)}/{MANIFEST}")
        if commit is None:
            return None
        try:
            self._take_manifest(folder, commit)
            self._require_undamaged(folder, commit)
        except (FileNotFoundError, ValueError) as error:
            say(f"{self.uri_of(folder)}: {error}; it is made again")
            return None
        return Artifact(folder, read_manifest(folder), reused=True)

    def gather(self, provenance: Provenance) -> None:
        """Have here, on each host of a training, its inputs and what the bucket has of an interrupted one."""
        self._fetch_inputs(provenance)
        mirror = self._mirror(self.place(provenance))
        shutil.rmtree(mirror.folder, ignore_errors=True)  # the first host's may be ahead of the bucket
        mirror.restore()

    @contextmanager
    def making(self, provenance: Provenance) -> Iterator[None]:
        """While an artifact is made, its inputs are at hand, and what it keeps for the case of a kill is mirrored."""
        self._fetch_inputs(provenance)
        folder = self.place(provenance)
        shutil.rmtree(folder, ignore_errors=True)  # a manifest without files
        mirror = self._mirror(folder)
        mirror.restore()
        with mirror.following():
            yield

    def _fetch_inputs(self, provenance: Provenance) -> None:
        brought = [paths for name, paths in provenance.inputs.items() if name not in provenance.in_place]
        self.fetch(path for paths in brought for path in paths if path.is_relative_to(self.root))

    def _mirror(self, folder: Path) -> WorkMirror:
        """Of the work folder of an artifact."""
        return WorkMirror(self.bucket, f"{RESUME}/{self._name_of(folder)}", work_folder(folder))

    def commit(self, made: Artifact) -> Artifact:
        """Carry an artifact to the bucket; where another process was first, its artifact is the one."""
        name, attempt = self._name_of(made.path), uuid.uuid4().hex
        files = [
            path for path in sorted(made.path.rglob("*")) if path.is_file() and path.name not in (MANIFEST, IN_BUCKET)
        ]
        named = {f"{name}/{attempt}/{path.relative_to(made.path)}": path for path in files}
        checksums = self.bucket.upload(named, f"{made.manifest['kind']}: to the bucket")
        below = f"{self.bucket.uri.rstrip('/')}/"
        left = {uri.removeprefix(below): each["path"] for uri, each in read_files_in_bucket(made.path).items()}
        there = {old: f"{name}/{attempt}/{path}" for old, path in left.items()}
        checksums |= self.bucket.copy(there, f"{made.manifest['kind']}: to its place in the bucket")
        manifest = (made.path / MANIFEST).read_bytes()
        objects = {each.removeprefix(f"{name}/{attempt}/"): crc32c for each, crc32c in sorted(checksums.items())}
        objects[MANIFEST] = crc32c_of(manifest)
        self.bucket.create(f"{name}/{attempt}/{OBJECTS}", json.dumps(objects, indent=1).encode())
        before = self.bucket.find(f"{name}/{MANIFEST}")
        try:
            if before is not None and self._is_undamaged(made.path, before):
                raise ChangedError
            generation = 0 if before is None else before.generation
            self.bucket.replace(f"{name}/{MANIFEST}", manifest, generation, **{ATTEMPT: attempt})
        except ChangedError:
            return self._give_way(made, attempt, list(checksums))
        self._note_origin(made.path, attempt)
        self._mirror(made.path).forget()
        return made

    def fetch(self, folders: Iterable[Path]) -> None:
        """Bring the files of artifacts here and verify them; others go where the folder's budget wants it."""
        wanted = [self._artifact_around(folder) for folder in folders]
        for folder in filter(None, wanted):
            os.utime(folder / ORIGIN)  # used now: others go first
        lacking = [folder for folder in wanted if folder is not None and not _is_whole(folder)]
        sizes = sum(entry["size_bytes"] for folder in lacking for entry in read_manifest(folder)["files"])
        if lacking:
            self._make_room(sizes, keep=[folder for folder in wanted if folder is not None])
        for folder in lacking:
            if not read_origin(folder):
                self.folder_of(self.uri_of(folder))  # takes it anew
            with alone_at(folder):
                self._fetch_files(folder)

    def _fetch_files(self, folder: Path) -> None:
        if _is_whole(folder):  # by now, for another process of this machine needed it, too
            return
        manifest, name = read_manifest(folder), f"{self._name_of(folder)}/{read_origin(folder)}"
        files = [each["path"] for each in manifest["files"]] + manifest.get("pages", [])
        label = f"{manifest['kind']}: from the bucket"
        self.bucket.download({f"{name}/{each}": folder / each for each in files}, label)
        verify(folder)

    def _artifact_around(self, path: Path) -> Path | None:
        """The artifact's folder that a path is or lies in (the best weights of a checkpoint)."""
        around = [folder for folder in (path, *path.parents) if folder.is_relative_to(self.root)]
        return next((folder for folder in around if (folder / ORIGIN).is_file()), None)

    def _name_of(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()

    def _take_manifest(self, folder: Path, commit: Found) -> None:
        """Put manifest and facts of the run into the folder, in place of those of another attempt."""
        with alone_at(folder):
            attempt, held = commit.notes.get(ATTEMPT, ""), folder / MANIFEST
            is_held = held.is_file() and attempt and read_origin(folder) == attempt
            if is_held and crc32c_of(held.read_bytes()) == commit.crc32c:
                return
            manifest = self._read_commit(folder, commit)
            run = self.bucket.read(f"{self._name_of(folder)}/{attempt}/{RUN}")
            shutil.rmtree(folder, ignore_errors=True)
            with draft_of(folder) as draft:
                draft.mkdir()
                write_whole(draft / RUN, run)
                write_whole(draft / MANIFEST, manifest)
                self._note_origin(draft, attempt)

    def _note_origin(self, folder: Path, attempt: str) -> None:
        write_whole(folder / ORIGIN, json.dumps({ATTEMPT: attempt}))

    def _read_commit(self, folder: Path, commit: Found) -> bytes:
        """A committed manifest; ValueError where it is not that of this artifact."""
        name = f"{self._name_of(folder)}/{MANIFEST}"
        content, where = self.bucket.read(name, commit.generation), f"{self.bucket.uri.rstrip('/')}/{name}"
        manifest = parse_manifest(content, where)
        if ATTEMPT not in commit.notes or manifest["fingerprint"] != folder.name:
            raise ValueError(f"{where}: damaged (it is of another artifact, or of no attempt)")
        return content

    def _is_undamaged(self, folder: Path, commit: Found) -> bool:
        try:
            self._read_commit(folder, commit)
            self._require_undamaged(folder, commit)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _require_undamaged(self, folder: Path, commit: Found) -> None:
        """Hold a committed artifact's objects against their checksums; FileNotFoundError, ValueError."""
        name = f"{self._name_of(folder)}/{commit.notes[ATTEMPT]}"
        wanted = parse_document(self.bucket.read(f"{name}/{OBJECTS}"), f"{self.bucket}/{name}/{OBJECTS}", {str: str})
        there = {found.name.removeprefix(f"{name}/"): found.crc32c for found in self.bucket.list(f"{name}/")}
        there[MANIFEST] = commit.crc32c
        wrong = [path for path, crc32c in wanted.items() if there.get(path) != crc32c]
        if wrong:
            raise ValueError(f"{wrong[0]} is {'missing' if wrong[0] not in there else 'damaged'} in the bucket")

    def _give_way(self, made: Artifact, attempt: str, names: list[str]) -> Artifact:
        """Take another process's artifact, which was committed while this one was made."""
        name = self._name_of(made.path)
        self.bucket.delete([*names, f"{name}/{attempt}/{OBJECTS}"])
        commit = self.bucket.find(f"{name}/{MANIFEST}")
        if commit is None:
            raise ChangedError(f"{self.uri_of(made.path)}: another process removes it; give the same command again")
        self._take_manifest(made.path, commit)
        return Artifact(made.path, read_manifest(made.path), reused=True)

    def _make_room(self, needed_bytes: int, keep: list[Path]) -> None:
        """Remove copies that are longest unused until the needed ones fit the budget."""
        copies = [path.parent for path in self.root.glob(f"*/*/{ORIGIN}") if path.parent not in keep]
        copies.sort(key=lambda folder: (folder / ORIGIN).stat().st_mtime)
        held = {folder: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in copies}
        left = sum(held.values()) + needed_bytes
        for folder in copies:
            if left <= self.budget_bytes:
                return
            shutil.rmtree(folder)
            left -= held[folder]


def open_store(place: str) -> Store:
    """The store in a folder, or below a gs:// uri; its copies lie below the folder that BERTLINE_CACHE names."""
    if not place.startswith(SCHEME):
        return Store(Path(place))
    bucket = Bucket(place)
    return BucketStore(find_cache() / bucket.bucket_name / bucket.prefix, bucket)


def _is_whole(folder: Path) -> bool:
    """Whether an artifact's files are here as its manifest says."""
    try:
        verify(folder)
    except ValueError:
        return False
    return True
