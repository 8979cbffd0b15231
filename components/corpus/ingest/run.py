"""The step "ingest": sources of text to a folder of documents."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bertline.components.corpus.documents import Document, DocumentWriter, Rejected, rejected_as
from bertline.components.corpus.ingest.articles import read_articles
from bertline.components.corpus.ingest.books import read_book
from bertline.components.corpus.ingest.extraction import Extractors
from bertline.components.corpus.ingest.reading import Advance
from bertline.components.corpus.ingest.sources import IngestConfig, SourceFile, Sources
from bertline.components.corpus.ingest.text import read_jsonl_file, read_text_file, read_wikiextractor_file
from bertline.progress import Progress

READERS = {
    "books": read_book,
    "text": read_text_file,
    "wikiextractor": read_wikiextractor_file,
    "jsonl": read_jsonl_file,
}
MIB = 2**20


def run(out: Path, config: IngestConfig, **sources: str | None) -> dict[str, int | float]:
    """Write the documents of `sources` into the empty folder `out`; returns what was kept, dropped and repaired.

    The names of the sources are the fields of `Sources`.

    Raises FileNotFoundError for missing sources, ValueError for files that are not what they are given as, for a cut
    dump without allow_truncated, and when no document is left.
    """
    files = Sources(**{name: given for name, given in sources.items() if given}).listed()
    counts: Counter[str] = Counter()
    size = sum(file.path.stat().st_size for file in files)
    with (
        Progress("ingest", -(-size // MIB), "MiB") as progress,
        Extractors(config.num_workers, config.page_timeout_seconds) as extractors,
        DocumentWriter(out, counts) as writer,
    ):
        advance = _in_mib(progress, counts)
        for file in files:
            for document in _read(file, config, extractors, counts, advance):
                _write(document, writer, config)
    if not counts["documents.kept"]:
        raise ValueError(f"no document is left of {len(files)} files ({_dropped(counts)}); see what the sources hold")
    return dict(sorted(counts.items()))


def _read(
    file: SourceFile, config: IngestConfig, extractors: Extractors, counts: Counter[str], advance: Advance
) -> Iterator[Document | Rejected]:
    if file.kind == "dump":
        return read_articles(file, config, extractors, counts, advance)
    return READERS[file.kind](file, counts, advance)


def _write(document: Document | Rejected, writer: DocumentWriter, config: IngestConfig) -> None:
    if isinstance(document, Rejected):
        writer.reject(document)
    elif not document.text:
        writer.reject(rejected_as(document, "empty"))
    elif len(document.text) < config.min_document_characters:
        writer.reject(rejected_as(document, "short"))
    else:
        writer.keep(document)


def _in_mib(progress: Progress, counts: Counter[str]) -> Advance:
    """Tells `progress` of whole mebibytes; the rest waits for the next call."""
    waiting = 0

    def advance(size_bytes: int) -> None:
        nonlocal waiting
        mebibytes, waiting = divmod(waiting + size_bytes, MIB)
        if mebibytes:
            progress.advance(mebibytes, documents=counts["documents.kept"])

    return advance


def _dropped(counts: Counter[str]) -> str:
    drops = [f"{name} {count:,}" for name, count in sorted(counts.items()) if name.startswith("dropped.")]
    return ", ".join(drops) or "they are empty"
