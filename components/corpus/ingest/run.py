"""The step "ingest": sources of text to a folder of documents."""

import glob
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from bertline.components.corpus.documents import Document, DocumentWriter, Rejected
from bertline.components.corpus.ingest.books import read_book
from bertline.components.corpus.ingest.extraction import Extractors
from bertline.components.corpus.ingest.reading import Advance, SourceFile
from bertline.components.corpus.ingest.text import read_jsonl_file, read_text_file, read_wikiextractor_file
from bertline.components.corpus.ingest.wikipedia import read_articles
from bertline.progress import Progress
from bertline.settings import require_at_least, require_positive

# What a folder is searched for, per kind of source; a file that is named itself may have any name.
FOLDER_PATTERNS: dict[str, tuple[str, ...]] = {
    "dump": ("*.xml", "*.xml.bz2", "*.xml.gz", "*.xml-p*.bz2"),  # the last: "...articles1.xml-p1p41242.bz2"
    "books": ("*.txt", "*.txt.gz"),
    "text": ("*.txt", "*.txt.gz"),
    "wikiextractor": ("wiki_*",),
    "jsonl": ("*.jsonl", "*.jsonl.gz", "*.json", "*.json.gz"),
}
READERS = {
    "books": read_book,
    "text": read_text_file,
    "wikiextractor": read_wikiextractor_file,
    "jsonl": read_jsonl_file,
}


@dataclass(frozen=True)
class IngestConfig:
    """What is kept of the sources."""

    allow_truncated: bool = False  # whether to use the whole pages of a dump that is cut or damaged, in place of
    # refusing it
    min_document_characters: int = 32  # characters of a document at least; shorter ones hold hardly a sentence:
    # title-only stubs, "X may refer to:"
    page_timeout_seconds: float = 60.0  # seconds for a page at most; one of 2 MB takes WikiExtractor half a second
    num_workers: int = field(default=1, metadata={"volatile": True})  # WikiExtractor programs side by side

    def __post_init__(self) -> None:
        """Refuse settings with which nothing could be read."""
        require_at_least(self, 1, "min_document_characters", "num_workers")
        require_positive(self, "page_timeout_seconds")


@dataclass(frozen=True)
class Sources:
    """Where the text is: each a file, a folder, a pattern with * ? [, or several of them with commas."""

    dump: str = ""  # MediaWiki pages-articles dumps: .xml, .xml.bz2, .xml.gz
    books: str = ""  # plain text of whole books, also as Project Gutenberg has them
    text: str = ""  # plain text, each file a document
    wikiextractor: str = ""  # what WikiExtractor wrote: <doc ...> or --json
    jsonl: str = ""  # a JSON object a line: "text", and if it likes "id" and "title"

    def list_files(self) -> list[SourceFile]:
        """All files in the order in which they are read, none twice.

        Raises ValueError when no source is given, FileNotFoundError for one that is not there or holds no file.
        """
        given = {kind: spec for kind, spec in vars(self).items() if spec.strip()}
        if not given:
            flags = " ".join(f"--{kind}" for kind in FOLDER_PATTERNS)
            raise ValueError(f"nothing to read; give at least one of {flags}")
        found: dict[Path, SourceFile] = {}
        for kind, spec in given.items():
            for file in _files_of(kind, spec):
                found.setdefault(file.path.resolve(), file)
        return list(found.values())

    def files(self) -> dict[str, list[Path]]:
        """The files of each kind of source that is given."""
        listed = self.list_files()
        kinds = dict.fromkeys(file.kind for file in listed)
        return {kind: [file.path for file in listed if file.kind == kind] for kind in kinds}


def list_source_files(**given: str) -> dict[str, list[Path]]:
    """The files of each source that is given, as a manifest records them."""
    return Sources(**given).files()


def run(out: Path, config: IngestConfig, **sources: str | None) -> dict[str, int | float]:
    """Write the documents of `sources` into the empty folder `out`; returns what was kept, dropped and repaired.

    The names of the sources are the fields of `Sources`.

    Raises FileNotFoundError for missing sources, ValueError for files that are not what they are given as, for a cut
    dump without allow_truncated, and when no document is left.
    """
    files = Sources(**{name: given for name, given in sources.items() if given}).list_files()
    counts: Counter[str] = Counter()
    size = sum(file.path.stat().st_size for file in files)
    with (
        Progress("ingest", size, "bytes") as progress,
        Extractors(config.num_workers, config.page_timeout_seconds) as extractors,
        DocumentWriter(out, counts) as writer,
    ):
        for file in files:
            for document in _read(file, config, extractors, counts, progress.advance):
                _write(document, writer, config)
                progress.advance(0, documents=counts["documents.kept"])
    if not counts["documents.kept"]:
        raise ValueError(f"nothing is left of {len(files)} files ({_list_drops(counts)}); see what the sources hold")
    return dict(sorted(counts.items()))


def _read(
    file: SourceFile, config: IngestConfig, extractors: Extractors, counts: Counter[str], advance: Advance
) -> Iterator[Document | Rejected]:
    if file.kind == "dump":
        articles = read_articles(file.path, config.allow_truncated, counts, advance)
        return extractors.extract(articles, file.name)
    return READERS[file.kind](file, counts, advance)


def _write(document: Document | Rejected, writer: DocumentWriter, config: IngestConfig) -> None:
    if isinstance(document, Rejected):
        writer.reject(document)
    elif not document.text:
        writer.reject(Rejected.from_document(document, "empty"))
    elif len(document.text) < config.min_document_characters:
        writer.reject(Rejected.from_document(document, "short"))
    else:
        writer.keep(document)


def _list_drops(counts: Counter[str]) -> str:
    drops = [f"{name} {count:,}" for name, count in sorted(counts.items()) if name.startswith("dropped.")]
    return ", ".join(drops) or "they are empty"


def _files_of(kind: str, spec: str) -> list[SourceFile]:
    places = [spec] if Path(spec).exists() else [each.strip() for each in spec.split(",") if each.strip()]
    return [file for place in places for file in _find_files(kind, place)]


def _find_files(kind: str, place: str) -> list[SourceFile]:
    path = Path(place)
    if path.is_file():
        return [SourceFile(kind, path, path.name)]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and _is_wanted(kind, file)]
        if not files:
            patterns = " ".join(FOLDER_PATTERNS[kind])
            raise FileNotFoundError(f"{path}: no file for --{kind} in this folder; it looks for {patterns}")
        return [SourceFile(kind, file, file.relative_to(path).as_posix()) for file in sorted(files)]
    if not glob.has_magic(place):
        raise FileNotFoundError(f"{place}: no such file or folder; correct --{kind}")
    matches = sorted(Path(match) for match in glob.glob(place, recursive=True))  # noqa: PTH207 - may be absolute
    files = [match for match in matches if match.is_file()]
    if not files:
        raise FileNotFoundError(f"{place}: no file matches this pattern; correct --{kind}")
    fixed = _fixed_folder(path)
    return [SourceFile(kind, file, file.relative_to(fixed).as_posix()) for file in files]


def _is_wanted(kind: str, file: Path) -> bool:
    return any(fnmatch(file.name, pattern) for pattern in FOLDER_PATTERNS[kind])


def _fixed_folder(pattern: Path) -> Path:
    """The folder above the first wildcard, so that names do not depend on where the files lie."""
    plain = [parent for parent in pattern.parents if not glob.has_magic(str(parent))]
    return plain[0]
