"""Plain text files, WikiExtractor's output and JSON lines to documents."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterator

from bertline.components.corpus.documents import Document, Rejected, one_line
from bertline.components.corpus.ingest.markup import clean_paragraphs
from bertline.components.corpus.ingest.paragraphs import split_paragraphs
from bertline.components.corpus.ingest.reading import Advance, SourceFile, decode_line, read_lines, read_text

DOC_START = re.compile(r'<doc id="([^"]*)"[^>]*?title="(.*)"[^>"]*>\s*$')
# WikiExtractor ends section titles with a full stop: "Early years.", "車站結構."
MAX_TITLE_WORDS = 6
MAX_TITLE_CHARACTERS = 60
NOT_IN_TITLE = re.compile(r"[.!?;:。！？，]|, ")


def read_text_file(file: SourceFile, counts: Counter[str], advance: Advance) -> Iterator[Document]:
    """The whole file as one document "text:<name>:0"; paragraphs are found as in a book."""
    text = read_text(file.path, counts, advance)
    counts["texts.read"] += 1
    paragraphs = [one_line(paragraph) for paragraph in split_paragraphs(text)]
    name = one_line(file.name)
    yield Document(f"text:{name}:0", file.path.name, "\n".join(filter(None, paragraphs)), name)


def read_wikiextractor_file(file: SourceFile, counts: Counter[str], advance: Advance) -> Iterator[Document | Rejected]:
    """The documents of a file that WikiExtractor wrote, as <doc ...> elements or with --json.

    Title line and section titles are left out. Raises ValueError for a file of another form.
    """
    lines = (decode_line(line, counts) for line in read_lines(file.path, advance))
    article: tuple[str, str] | None = None
    body: list[str] = []
    for number, line in enumerate(lines, 1):
        if article is not None and line.strip() != "</doc>":
            body.append(html.unescape(line))
        elif article is not None:
            yield _wikiextractor_document(*article, body, file)
            article, body = None, []
        elif start := DOC_START.match(line):
            article = (start[1], html.unescape(start[2]))
        elif line.startswith("{"):
            yield _wikiextractor_json(line, number, file)
        elif line.strip():
            raise ValueError(
                f"{file.path}:{number}: not WikiExtractor's output (expected <doc ...> or a JSON object); "
                "for plain text use --text"
            )
    if article is not None:
        raise ValueError(f'{file.path}: cut: the document with id "{article[0]}" has no </doc>; extract again')


def read_jsonl_file(file: SourceFile, counts: Counter[str], advance: Advance) -> Iterator[Document | Rejected]:
    """A document per line from its "text", "id" and "title"; a line without text is rejected."""
    for number, line in enumerate(read_lines(file.path, advance), 1):
        text = decode_line(line, counts)
        if not text.strip():
            continue
        identity = f"jsonl:{one_line(file.name)}:{number}"
        fields, reason = _json_object(text)
        if reason:
            yield Rejected(identity, "", reason, file.name, text)
            continue
        paragraphs = [one_line(paragraph) for paragraph in fields["text"].split("\n")]
        identity = one_line(str(fields.get("id") or identity))
        title = one_line(str(fields.get("title") or ""))
        yield Document(identity, title, "\n".join(filter(None, paragraphs)), file.name)


def _json_object(text: str) -> tuple[dict[str, str], str]:
    """The object on a line, or why it gives no document."""
    try:
        fields = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return {}, f"not_json: {error}"
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
        return {}, 'no_text: the line has no string "text"'
    return fields, ""


def _wikiextractor_json(line: str, number: int, file: SourceFile) -> Document | Rejected:
    fields, reason = _json_object(line)
    if reason:
        return Rejected(f"wikiextractor:{one_line(file.name)}:{number}", "", reason, file.name, line)
    lines = html.unescape(fields["text"]).split("\n")
    return _wikiextractor_document(str(fields.get("id", number)), str(fields.get("title", "")), lines, file)


def _wikiextractor_document(identity: str, title: str, lines: list[str], file: SourceFile) -> Document:
    if lines and lines[0].strip() == title.strip():
        lines = lines[1:]
    paragraphs = clean_paragraphs(line for line in lines if not _is_section_title(line))
    return Document(f"wikiextractor:{one_line(identity)}", one_line(title), "\n".join(paragraphs), file.name)


def _is_section_title(line: str) -> bool:
    """A few words with a full stop and no other mark; a sentence so short is rare and is lost, too."""
    line = line.strip()
    words = line[:-1]
    return (
        line.endswith(".")
        and len(line) <= MAX_TITLE_CHARACTERS
        and len(words.split()) <= MAX_TITLE_WORDS
        and not NOT_IN_TITLE.search(words)
    )
