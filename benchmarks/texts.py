"""Inputs of any size, made of given text: sentences in the original's format, and text files."""

import gzip
import shutil
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path

from measuring import MEGABYTE

SENTENCES_PER_DOCUMENT = 200  # a chapter; whole novels would be too few documents to draw random pairs from
SENTENCES_PER_PARAGRAPH = 5


def write_sentences(texts: list[str], all_sentences: Path, path: Path, megabytes: float) -> None:
    """Sentences of the texts, a blank line after each document; again from the start if there are too few.

    Each time the documents are one sentence longer. `all_sentences` is made if it is not there: all of them, once.
    """
    if not all_sentences.exists():
        with all_sentences.open("w", encoding="utf-8") as file:
            file.writelines(f"{sentence}\n" for text in texts for sentence in _sentences_of(Path(text)))
    written = 0
    with path.open("w", encoding="utf-8") as file, all_sentences.open(encoding="utf-8") as lines:
        for length in count(SENTENCES_PER_DOCUMENT):
            lines.seek(0)
            while document := list(islice(lines, length)):
                file.writelines(chain(document, "\n"))
                written += sum(len(sentence.encode()) for sentence in document) + 1
                if written >= megabytes * MEGABYTE:
                    return


def _sentences_of(text: Path) -> Iterator[str]:
    """The sentences of a text file, gzipped or not."""
    from bertline.components.corpus.ingest.paragraphs import split_paragraphs
    from bertline.components.corpus.split import split_sentences

    content = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
    for paragraph in split_paragraphs(content.decode("utf-8", "replace").replace("\r\n", "\n")):
        yield from split_sentences(paragraph)


def write_texts(sentences: Path, folder: Path) -> None:
    """The documents of a file of sentences as text files, a paragraph a line."""
    emptied(folder).mkdir()
    with sentences.open(encoding="utf-8") as lines:
        for number in count():
            document = list(iter(lambda: next(lines, "\n").rstrip("\n"), ""))  # up to a blank line, or the end
            if not document:
                return
            paragraphs = range(0, len(document), SENTENCES_PER_PARAGRAPH)
            text = "\n".join(" ".join(document[first : first + SENTENCES_PER_PARAGRAPH]) for first in paragraphs)
            (folder / f"{number:06}.txt").write_text(text + "\n", encoding="utf-8")


def emptied(folder: Path) -> Path:
    """The path, with nothing there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
