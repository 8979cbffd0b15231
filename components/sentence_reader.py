"""A folder of sentences, as `split` writes it -> the places and the texts of its documents.

sentences-00000.txt holds one sentence a line and an empty line after every document; ids-00000.txt beside it
holds the documents' ids in the same order.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class DocumentPlace(NamedTuple):
    """Where a document's sentences lie."""

    document_id: str
    file: str
    start_bytes: int
    end_bytes: int


def sentence_files(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs of a sentences folder: sentences-00000.txt with ids-00000.txt, and so on."""
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of sentences; run "bertline split"')
    texts = sorted(folder.glob("sentences-*.txt"))
    if not texts:
        raise FileNotFoundError(f'{folder}: no sentences-*.txt in it; run "bertline split"')
    pairs = [(text, text.with_name(text.name.replace("sentences-", "ids-", 1))) for text in texts]
    for text, ids in pairs:
        if not ids.is_file():
            raise FileNotFoundError(f'{ids}: missing beside {text.name}; run "bertline split" again')
    return pairs


def document_places(text: Path, ids: Path) -> Iterator[DocumentPlace]:
    """The places of all documents of a file. Raises ValueError when the two files do not correspond."""
    with text.open("rb") as lines, ids.open(encoding="utf-8", newline="\n") as names:
        for start, end in _paragraphs(lines):
            name = next(names, "").rstrip("\n")
            if not name:
                raise ValueError(f'{text}: more documents than ids in {ids.name}; run "bertline split" again')
            yield DocumentPlace(name, str(text), start, end)
        if next(names, ""):
            raise ValueError(f'{text}: fewer documents than ids in {ids.name}; run "bertline split" again')


def read_documents(places: Iterable[DocumentPlace]) -> Iterator[tuple[str, list[str]]]:
    """(id, sentences) of the documents at `places`, in their order; bytes that are not UTF-8 are left out."""
    for place in places:
        with Path(place.file).open("rb") as file:
            file.seek(place.start_bytes)
            text = file.read(place.end_bytes - place.start_bytes).decode("utf-8", "ignore")
        yield place.document_id, text.removesuffix("\n").split("\n")


def _paragraphs(lines: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Start and end, in bytes, of the runs of lines between empty ones."""
    start = position = 0
    for line in lines:
        if line == b"\n":
            if position > start:
                yield start, position
            start = position + 1
        position += len(line)
    if position > start:
        yield start, position
