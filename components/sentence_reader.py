"""A folder of sentences, as `split` writes it -> its documents.

sentences-00000.txt holds one sentence a line and an empty line after every document; ids-00000.txt beside it
holds the documents' ids in the same order.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path


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


def read_documents(text: Path, ids: Path) -> Iterator[tuple[str, str]]:
    """(id, sentences one a line) of every document. Raises ValueError when the two files do not correspond."""
    with text.open(encoding="utf-8", newline="\n") as lines, ids.open(encoding="utf-8", newline="\n") as names:
        for document in _paragraphs(lines):
            name = next(names, "").rstrip("\n")
            if not name:
                raise ValueError(f'{text}: more documents than ids in {ids.name}; run "bertline split" again')
            yield name, document
        if next(names, ""):
            raise ValueError(f'{text}: fewer documents than ids in {ids.name}; run "bertline split" again')


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Runs of lines between empty ones, without the last newline."""
    sentences: list[str] = []
    for line in lines:
        if line != "\n":
            sentences.append(line)
        elif sentences:
            yield "".join(sentences).rstrip("\n")
            sentences = []
    if sentences:
        yield "".join(sentences).rstrip("\n")
