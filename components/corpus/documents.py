"""Documents on disk: gzip-compressed JSON lines in shards, with the rejected ones beside them."""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

# A shard is what one worker of a later step takes at a time: a few seconds of work, small in memory.
SHARD_SIZE_BYTES = 32 * 2**20
# Level 4 writes the text of a fast step at the speed at which it comes; level 9 saves 6 % and takes four times as long.
COMPRESSION_LEVEL = 4

# Not text: control characters (line ends are white space and stay until lines are joined), halves of
# surrogate pairs, which no UTF-8 file can hold, the byte-order mark, and the two non-characters of XML 1.0.
NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Document:
    """One article, chapter or file; `text` holds its paragraphs, one a line, none of them empty."""

    id: str  # "wikipedia:enwiki:12", "book:pg84:003": unique in its folder
    title: str
    text: str
    source: str  # name of the file it was read from, without machine paths


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that is left out; `reason` is a word, or a word, a colon and details."""

    id: str
    title: str
    reason: str
    source: str
    text: str

    @classmethod
    def from_document(cls, document: Document, reason: str) -> "Rejected":
        """`document` as one that is left out for `reason`."""
        return cls(document.id, document.title, reason, document.source, document.text)


def one_line(text: str) -> str:
    """`text` on one line: without characters that are not text, with white space of any kind as single spaces."""
    return " ".join(NOT_TEXT.sub("", text).split())


class DocumentWriter:
    """Writes kept and rejected documents into shards of `folder`; use as a context manager.

    Counts `documents.kept`, `characters.kept` and `dropped.<reason>`. Of documents with the same id the
    first is kept. The bytes depend on nothing but the documents and their order.
    """

    def __init__(self, folder: Path, counts: Counter[str], shard_size_bytes: int = SHARD_SIZE_BYTES) -> None:
        self._counts = counts
        self._ids: set[int] = set()
        self._kept = _Shards(folder, "documents", shard_size_bytes)
        self._rejected = _Shards(folder / "rejected", "rejected", shard_size_bytes)

    def keep(self, document: Document) -> None:
        """Write `document`, unless its id came before."""
        key = _key(document.id)
        if key in self._ids:
            self.reject(Rejected.from_document(document, "duplicate_id"))
            return
        self._ids.add(key)
        self._counts["documents.kept"] += 1
        self._counts["characters.kept"] += len(document.text)
        self._kept.write(asdict(document))

    def reject(self, rejected: Rejected) -> None:
        """Count the document under its reason and write it beside the others."""
        self._counts["dropped." + rejected.reason.partition(":")[0]] += 1
        self._rejected.write({key: NOT_TEXT.sub("", value) for key, value in asdict(rejected).items()})

    def __enter__(self) -> "DocumentWriter":
        """Nothing is opened before the first document."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the open shards."""
        self._kept.close()
        self._rejected.close()


def list_document_shards(folder: Path) -> list[Path]:
    """The shards of a documents folder in order; FileNotFoundError for a folder without any."""
    shards = sorted(folder.glob("documents-*.jsonl.gz"))
    if not shards:
        raise FileNotFoundError(f'{folder}: no documents-*.jsonl.gz here; give the folder that "bertline ingest" wrote')
    return shards


def read_documents(shard: Path) -> Iterator[Document]:
    """The documents of one shard; ValueError names the damaged line or the cut file."""
    number = 0
    try:
        with gzip.open(shard, "rb") as lines:
            for line in lines:
                number += 1
                fields = json.loads(line)
                yield Document(fields["id"], fields["title"], fields["text"], fields["source"])
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{shard}: cut or damaged after line {number} ({error}); ingest again") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{shard}:{number}: not a document ({error!r}); ingest again") from error


def _key(identity: str) -> int:
    """64 bits of a hash: the ids of seven million articles take half the memory that strings would."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")


class _Shards:
    """JSON lines in numbered gzip files, a new one begun when `size_bytes` of lines are in the last."""

    def __init__(self, folder: Path, stem: str, size_bytes: int) -> None:
        self._folder, self._stem, self._size_bytes = folder, stem, size_bytes
        self._number = 0
        self._written_bytes = 0
        self._file: BinaryIO | None = None
        self._compressed: gzip.GzipFile | None = None

    def write(self, fields: dict[str, str]) -> None:
        line = json.dumps(fields, ensure_ascii=False).encode() + b"\n"
        if self._compressed is None or self._written_bytes >= self._size_bytes:
            self.close()
            self._compressed = self._open_next()
        self._compressed.write(line)
        self._written_bytes += len(line)

    def close(self) -> None:
        if self._compressed is not None and self._file is not None:
            self._compressed.close()
            self._file.close()
        self._compressed, self._file = None, None

    def _open_next(self) -> gzip.GzipFile:
        self._folder.mkdir(exist_ok=True)
        self._file = (self._folder / f"{self._stem}-{self._number:05}.jsonl.gz").open("wb")
        self._number += 1
        self._written_bytes = 0
        # No name and no time in the header: the same documents make the same bytes.
        return gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._file, mtime=0)
