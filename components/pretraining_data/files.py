"""Files of sentences and the documents in them: their places, their texts, their part; on this machine or in a bucket.

Sentences are one a line, with a blank line between documents. A folder as `split` writes it holds sentences-00000.txt
and beside it ids-00000.txt with the documents' ids in the same order. Text files of the same form without ids, as
create_pretraining_data takes them, get ids from their names. Unlike there, a file's end ends a document.

Dataflow's workers reach them as gs://BUCKET/...: the files of a store in a bucket, which need not be on this machine,
or what the process that starts a pipeline has mounted at /gcs/BUCKET.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bertline.components.pretraining_data.buckets import is_object, open_object, upload_object
from bertline.components.store.manifests import MANIFEST, describe, read_manifest
from bertline.files import draft_of

MOST_OPEN_FILES = 64
LONGEST_BLANK_LINE = 64  # bytes; longer lines are not looked at
FIRST_NON_ASCII = 0x80
PARTS = ("train", "heldout", "all")
KEYS = 2**64
DATAFLOW = "DataflowRunner"
PROCESSES = "processes"  # no runner of Beam's: a pool of processes on this machine
LOCAL_RUNNERS = (
    PROCESSES,
    "FnApiRunner",
    "DirectRunner",
    "PrismRunner",
    "SwitchingDirectRunner",
    "BundleBasedDirectRunner",
)
MOUNT, BUCKETS = "/gcs/", "gs://"


class SentenceFile(NamedTuple):
    """A file of sentences, and what names its documents."""

    text: str  # a path that every worker can open
    ids: str  # the file of their ids, or ""
    prefix: str = ""  # of the ids of documents without any


class DocumentPlace(NamedTuple):
    """Where a document's sentences lie."""

    document_id: str
    file: str
    start_bytes: int
    end_bytes: int


class DocumentText(NamedTuple):
    """A document with its text, for workers that cannot read a stretch of a file at little cost."""

    document_id: str
    text: bytes


class Part(NamedTuple):
    """A part of a text: which of its documents are trained on, and which are held out."""

    name: str  # one of PARTS
    heldout_share: float

    def __str__(self) -> str:
        """As messages name it."""
        return f'part "{self.name}" with heldout_share {self.heldout_share}'

    def shares(self) -> tuple[float, float]:
        """Its documents have keys from the first of these shares up to the second, the second not among them."""
        share = self.heldout_share
        return {"train": (share, 1.0), "heldout": (0.0, share), "all": (0.0, 1.0)}[self.name]

    def overlaps(self, other: "Part") -> bool:
        """Whether documents of the text can be in both.

        >>> [Part("train", 0.05).overlaps(Part("heldout", share)) for share in (0.05, 0.1)]
        [False, True]
        """
        (first, last), (other_first, other_last) = self.shares(), other.shares()
        return max(first, other_first) < min(last, other_last)

    def holds(self, document_id: str) -> bool:
        """Whether a document belongs to the part; a function of its id, not of the seed."""
        first, last = self.shares()
        return first * KEYS <= document_key(document_id, "heldout") < last * KEYS


def require_held_out(checkpoint: Path, records: Path, config: Any) -> None:
    """Refuse to score records of documents that are trained on, unless `config` asks for it (trained_on)."""
    trained = [entry["digest"] for entry in read_manifest(checkpoint)["inputs"] if entry["name"] == "records"]
    manifest = read_manifest(records)
    if not config.trained_on and (manifest["digest"] in trained or manifest["parameters"].get("part") == PARTS[0]):
        advice = 'run "bertline prepare --part heldout", or score them all the same with --trained_on'
        raise ValueError(f"{records}: documents to train on, not held-out ones; {advice}")


def require_other_documents(records: Path, heldout: Path | None = None, **others: Any) -> None:
    """Refuse held-out records that share a document with those of training, where they are of one text."""
    if heldout is None:
        return
    if describe(records)["digest"] == describe(heldout)["digest"]:
        raise ValueError(f'{heldout}: trained on, not held out; run "bertline prepare --part heldout"')
    (text, trained), (other_text, scored) = (_documents_of(read_manifest(path)) for path in (records, heldout))
    if text and text == other_text and trained.overlaps(scored):
        raise ValueError(
            f"{heldout}: {scored}, {records}: {trained} of the same text, so documents are in both; prepare --part "
            "train and --part heldout with one heldout_share"
        )


def _documents_of(manifest: Mapping[str, Any]) -> tuple[list[str], Part]:
    """The digests of the text of which records are made, and the part of it."""
    text = [entry["digest"] for entry in manifest["inputs"] if entry["name"] == "sentences"]
    settings = manifest["parameters"]
    return text, Part(settings.get("part", "all"), settings.get("heldout_share", 0.0))


def list_sentence_files(folder: Path) -> list[SentenceFile]:
    """The files of a sentences folder: sentences-00000.txt with ids-00000.txt, and so on."""
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of sentences; run "bertline split"')
    texts = sorted(folder.glob("sentences-*.txt"))
    names = {text.name for text in folder.iterdir()}
    if not texts and (folder / MANIFEST).is_file():  # the others are in a bucket
        names = {each["path"] for each in read_manifest(folder)["files"]}
        texts = sorted(folder / name for name in names if fnmatch(name, "sentences-*.txt"))
    if not texts:
        raise FileNotFoundError(f'{folder}: no sentences-*.txt in it; run "bertline split"')
    pairs = [(text, text.with_name(text.name.replace("sentences-", "ids-", 1))) for text in texts]
    for text, ids in pairs:
        if ids.name not in names:
            raise FileNotFoundError(f'{ids}: missing beside {text.name}; run "bertline split" again')
    return [SentenceFile(str(text), str(ids)) for text, ids in pairs]


def list_plain_files(texts: Iterable[Path]) -> list[SentenceFile]:
    """Text files without ids; documents are named after their file's place in the list, its name and their number."""
    return [SentenceFile(str(text), "", f"{number:05}-{text.name}") for number, text in enumerate(texts)]


def document_places(file: SentenceFile) -> Iterator[DocumentPlace]:
    """The places of all documents of a file. Raises ValueError when its ids do not correspond."""
    with open_bytes(file.text) as lines:
        if not file.ids:
            for number, (start, end) in enumerate(_find_documents(lines)):
                yield DocumentPlace(f"{file.prefix}:{number:09}", file.text, start, end)
            return
        with open_bytes(file.ids) as names:
            name = Path(file.ids).name
            for start, end in _find_documents(lines):
                document_id = next(names, b"").decode("utf-8").rstrip("\n")
                if not document_id:
                    raise ValueError(f'{file.text}: more documents than ids in {name}; run "bertline split" again')
                yield DocumentPlace(document_id, file.text, start, end)
            if next(names, b""):
                raise ValueError(f'{file.text}: fewer documents than ids in {name}; run "bertline split" again')


def read_texts(documents: Iterable[DocumentPlace | DocumentText]) -> Iterator[DocumentText]:
    """The documents with their texts, in their order."""
    opened: dict[str, BinaryIO] = {}
    try:
        for document in documents:
            if isinstance(document, DocumentText):
                yield document
            else:
                file = _open(document.file, opened)
                file.seek(document.start_bytes)
                yield DocumentText(document.document_id, file.read(document.end_bytes - document.start_bytes))
    finally:
        _close(opened)


def read_documents(documents: Iterable[DocumentPlace | DocumentText]) -> Iterator[tuple[str, list[str]]]:
    """(id, sentences) of the documents, in their order; bytes that are not UTF-8 are left out."""
    for document_id, text in read_texts(documents):
        lines = text.decode("utf-8", "ignore").split("\n")
        yield document_id, [line for line in map(str.strip, lines) if line]


def document_key(document_id: str, purpose: str = "") -> int:
    """64 bits that stand for a document: BLAKE2b of its id, the same on every machine.

    Keys for different purposes (at most 16 bytes) are independent of each other.
    """
    digest = hashlib.blake2b(document_id.encode(), digest_size=8, person=purpose.encode())
    return int.from_bytes(digest.digest(), "little")


def _open(path: str, opened: dict[str, BinaryIO]) -> BinaryIO:
    if path not in opened:
        if len(opened) >= MOST_OPEN_FILES:
            _close(opened)
        opened[path] = open_bytes(path)
    return opened[path]


def _close(opened: dict[str, BinaryIO]) -> None:
    while opened:
        opened.popitem()[1].close()


def _find_documents(lines: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Start and end, in bytes, of the runs of lines between blank ones."""
    start = position = 0
    for line in lines:
        if len(line) < LONGEST_BLANK_LINE and _is_blank(line):
            if position > start:
                yield start, position
            start = position + len(line)
        position += len(line)
    if position > start:
        yield start, position


def _is_blank(line: bytes) -> bool:
    return line.isspace() or (line[0] >= FIRST_NON_ASCII and not line.decode("utf-8", "ignore").strip())


def list_inputs_in_place(config: Any) -> tuple[str, ...]:
    """The inputs of `prepare` that workers read where they lie."""
    return () if is_local(config.runner) else ("sentences",)


def is_local(runner: str) -> bool:
    """Whether a runner's workers are processes of this machine."""
    return runner in LOCAL_RUNNERS


def is_in_bucket(path: Path, runner: str) -> bool:
    """Whether a runner's workers leave files for `path` in a bucket that is not mounted here."""
    return not is_local(runner) and not str(path).startswith(MOUNT)


def for_workers(path: Path | str, runner: str) -> str:
    """The name under which `runner`'s workers find `path`.

    Raises ValueError for a path of this machine alone, which workers elsewhere cannot reach.
    """
    if is_local(runner):
        return str(path)
    if "://" in str(path):
        return str(path)
    path = Path(path)
    if not str(path).startswith(MOUNT):
        from bertline.components.store.folder import uri_of_copy

        if uri := uri_of_copy(path):
            return uri
        raise ValueError(
            f"{path}: {runner}'s workers cannot reach it; keep inputs and outputs below {MOUNT}BUCKET, or all of a run "
            f"in a bucket (--out=gs://BUCKET/FOLDER), or take a runner of this machine: {', '.join(LOCAL_RUNNERS)}"
        )
    return BUCKETS + str(path).removeprefix(MOUNT)


def require_reachable(path: Path, runner: str) -> None:
    """Refuse a path that `runner`'s workers cannot reach (ValueError)."""
    for_workers(path, runner)


def open_bytes(path: str) -> BinaryIO:
    """A file opened for reading, wherever it lies."""
    return open_object(path) if "://" in path else Path(path).open("rb")


def exists(path: str) -> bool:
    """Whether there is such a file."""
    return is_object(path) if "://" in path else Path(path).is_file()


@contextmanager
def draft_for(path: str) -> Iterator[Path]:
    """Where the block writes what becomes `path` when it ends: nobody sees a part of it.

    It lies beside `path`, or on the worker's own disk for a bucket. Raises OSError when a bucket refuses it.
    """
    if "://" not in path:
        with draft_of(Path(path)) as draft:
            yield draft
        return
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.rpartition("/")[2]
        yield draft
        upload_object(draft, path)
