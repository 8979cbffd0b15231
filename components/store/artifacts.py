"""Artifacts: how a step's output is made whole or not at all, and found again by what it is made of."""

import datetime
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bertline.components.store.fingerprint import code_digests, code_fingerprint
from bertline.components.store.folder import WORK, Folder
from bertline.components.store.manifests import (
    FACTS,
    IN_BUCKET,
    MANIFEST,
    PAGE,
    RUN,
    describe,
    digest_of,
    label_files,
    read_manifest,
    sha256_of,
    verify,
)
from bertline.components.store.versions import list_versions, read_checkout
from bertline.files import draft_of, require_of_this_machine
from bertline.preemption import held
from bertline.settings import list_named_files, list_settings

SCHEMA = "bertline/manifest/v1"

Counts = dict[str, int | float]


@dataclass(frozen=True)
class Provenance:
    """How an artifact is made: everything that decides its bytes."""

    kind: str  # what it is: documents, sentences, records_128 ...
    step: str  # the step that writes it
    inputs: Mapping[str, Sequence[Path]]  # name -> artifacts or plain files
    config: Any  # the step's frozen dataclass
    code: Sequence[str]  # the modules that make it; what they import is followed
    label: str = ""  # its name for a reader where the kind is that of others, too: "scores on heldout_128"
    in_place: tuple[str, ...] = ()  # inputs that are read where they lie; the others are brought to this machine
    subject: str = ""  # what its plain input files are about, likewise: "mrpc"

    def described_inputs(self) -> list[dict[str, str]]:
        """Name, kind and digest of every input, in order; whole paths are left out: they differ by machine.

        A plain file has a label, too: "mrpc/dev.tsv", or "en/text.txt" beside a text.txt of another folder.
        """
        described = []
        for name, paths in self.inputs.items():
            for path, label in zip(paths, label_files(paths), strict=True):
                about = describe(path)
                labels = {"label": f"{self.subject}/{label}".lstrip("/")} if about["kind"] == "file" else {}
                described.append({"name": name, **about, "file": path.name, **labels})
        return described

    def facts(self) -> dict[str, Any]:
        """What the artifact's identity is made of: step, parameters, the files they name, inputs' digests and code."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "step": self.step,
            "code": code_fingerprint(self.code),
            **{f"parameter {name}": value for name, value in list_settings(self.config).items()},
            **{f"file of {name}": sha256_of(path) for name, path in list_named_files(self.config).items()},
            **self.digests(),
        }

    def digests(self) -> dict[str, list[str]]:
        """Those of every input."""
        return {f"input {name}": [describe(path)["digest"] for path in paths] for name, paths in self.inputs.items()}

    def identity(self) -> dict[str, Any]:
        """Digests of the inputs and of the code: what a run that goes on must share with the interrupted one."""
        code = {"fingerprint": code_fingerprint(self.code), "modules": code_digests(self.code)}
        return {**self.digests(), "code": code}

    def fingerprint(self) -> str:
        """Identity of the artifact before it exists."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """A whole artifact: where it lies, what its manifest says, and whether an earlier run had made it."""

    path: Path
    manifest: dict[str, Any]
    reused: bool
    is_noted: bool = True  # by this process; of several hosts that made it, by the first alone


@dataclass(frozen=True)
class Store:
    """A folder in which artifacts lie at `<kind>/<fingerprint>`, so that a finished step is found again."""

    root: Path
    is_shared: ClassVar[bool] = True  # its folders are the same for all hosts of a training

    def place(self, provenance: Provenance) -> Path:
        """Where the artifact of `provenance` lies, or will lie."""
        return self.root / provenance.kind / provenance.fingerprint()

    def uri_of(self, folder: Path) -> str:
        """How other machines name an artifact of this one's folder."""
        return str(folder)

    def folder_of(self, uri: str) -> Path:
        """The folder of this machine for what another one named."""
        return Path(uri)

    @property
    def objects(self) -> Any:
        """The small files of the store: notes of runs, refs."""
        return Folder(self.root)

    def write_note(self, name: str, content: str) -> None:
        """Keep a small text below the store, such as what came of a run's task."""
        Folder(self.root).write(name, content.encode())
        self.share_note(name)

    def share_note(self, name: str) -> None:
        """Let other machines read a small file that was written here."""

    def require_writable(self) -> None:
        """Refuse a store that nothing can be written to (OSError)."""
        make_writable(self.root)

    def fetch(self, folders: Iterable[Path]) -> None:
        """Have all files of artifacts on this machine."""

    def take_manifests(self) -> None:
        """Bring here what is said of all artifacts, where the store is elsewhere."""

    def find(self, provenance: Provenance) -> Artifact | None:
        """The artifact that `provenance` describes, verified, if it is there."""
        return _find_in(self.place(provenance), provenance)

    def gather(self, provenance: Provenance) -> None:
        """Have here, on each host of a training, its inputs and what an interrupted one has left."""

    @contextmanager
    def making(self, provenance: Provenance) -> Iterator[None]:
        """While an artifact is made, its inputs are at hand, and so is what a killed process has left of it."""
        yield

    def commit(self, made: Artifact) -> Artifact:
        """Let others find an artifact that was made; the one that they find."""
        return made


def publish(out: Path | Store, provenance: Provenance, write: Callable[[Path, Path], Counts]) -> Artifact:
    """Make `out` (or its place in a store) the artifact that `provenance` describes.

    `write(folder, work)` fills the empty `folder` and returns its counts; `work` survives a kill, so a
    long step resumes from what it left there. The files appear in one rename, the manifest among
    them; when `write` raises, nothing appears; once it has returned, a signal waits until they have. An
    `out` that already is this artifact is verified and kept. Raises FileExistsError when `out` is something else.
    """
    folder = place_of(out, provenance)
    if (made_before := find(out, provenance)) is not None:
        shutil.rmtree(work_folder(folder), ignore_errors=True)  # of a run that was killed when all was made
        return made_before
    make_writable(folder.parent)
    started = time.time()
    with ExitStack() as stack:
        with out.making(provenance) if isinstance(out, Store) else nullcontext(), draft_of(folder) as draft:
            draft.mkdir()
            counts = write(draft, work_folder(folder))
            stack.enter_context(held(str(folder)))
            facts = _run_facts(provenance, started) | _take_facts(draft)
            manifest = _manifest(draft, provenance, counts)
            _write_json(draft / RUN, facts)
            _write_json(draft / MANIFEST, manifest)
        made = Artifact(folder, manifest, reused=False)
        if isinstance(out, Store):
            made = out.commit(made)
        shutil.rmtree(work_folder(folder), ignore_errors=True)
    return made


def find(out: Path | Store, provenance: Provenance) -> Artifact | None:
    """The artifact that `provenance` describes, verified, if it is there; FileExistsError where something else is."""
    return out.find(provenance) if isinstance(out, Store) else _find_in(out, provenance)


def _find_in(folder: Path, provenance: Provenance) -> Artifact | None:
    manifest = _finished(folder, provenance.fingerprint()) if folder.exists() else None
    return None if manifest is None else Artifact(folder, manifest, reused=True)


def place_of(out: Path | Store, provenance: Provenance) -> Path:
    """The folder of the artifact that `provenance` describes, made or not."""
    return out.place(provenance) if isinstance(out, Store) else out


def work_folder(out: Path) -> Path:
    """Where the step that makes `out` keeps what must survive a kill; removed once `out` is whole."""
    return out.with_name(f"{out.name}{WORK}")


def _finished(out: Path, fingerprint: str) -> dict[str, Any] | None:
    """The manifest if `out` is this very artifact, None if it is an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return None
    if out.is_dir() and (out / MANIFEST).is_file() and read_manifest(out)["fingerprint"] == fingerprint:
        return verify(out)
    raise FileExistsError(f"{out}: already holds something else; give another output folder")


def make_writable(folder: Path) -> None:
    """Make `folder` if need be; raises NotADirectoryError or PermissionError when nothing can be written there."""
    require_of_this_machine(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"{folder}: a file is in the way; give another output folder") from error
    except PermissionError as error:
        raise PermissionError(f"{folder}: cannot be made ({error.strerror}); give another output folder") from error
    if not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"{folder}: not writable; give another output folder or change its permissions")


def _manifest(folder: Path, provenance: Provenance, counts: Counts) -> dict[str, Any]:
    """What is said of the files in `folder`; of pages their names alone, for other code draws them otherwise."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    pages = [str(path.relative_to(folder)) for path in paths if path.suffix == PAGE]
    files = [
        {"path": str(path.relative_to(folder)), "size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
        if path.suffix != PAGE and path.name != IN_BUCKET
    ]
    files = sorted([*files, *read_files_in_bucket(folder).values()], key=lambda each: Path(str(each["path"])))
    return {
        "schema": SCHEMA,
        "kind": provenance.kind,
        **({"label": provenance.label} if provenance.label else {}),
        "step": provenance.step,
        "digest": digest_of(files),
        "fingerprint": provenance.fingerprint(),
        "code": code_fingerprint(provenance.code),
        "inputs": provenance.described_inputs(),
        "parameters": list_settings(provenance.config),
        "counts": dict(sorted(counts.items())),
        "files": files,
        **({"pages": pages} if pages else {}),
    }


def read_files_in_bucket(folder: Path) -> dict[str, dict[str, Any]]:
    """Those of a draft that others have put into its store's bucket: uri of the object -> path, size and sha256."""
    try:
        return dict(json.loads((folder / IN_BUCKET).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _take_facts(draft: Path) -> dict[str, Any]:
    """What the step itself has said of the run."""
    try:
        facts = json.loads((draft / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    (draft / FACTS).unlink()
    return dict(facts)


def _run_facts(provenance: Provenance, started: float) -> dict[str, Any]:
    return {
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 3),
        "inputs": {name: [str(path) for path in paths] for name, paths in provenance.inputs.items()},
        "volatile": list_settings(provenance.config, volatile=True),
        "versions": list_versions(),
        **({"checkout": checkout} if (checkout := read_checkout()) else {}),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
