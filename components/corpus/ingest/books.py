"""Books as plain text to documents: one per chapter, without licence, title page, contents or headings."""

import re
from collections import Counter
from collections.abc import Iterator

from bertline.components.corpus.documents import Document, one_line
from bertline.components.corpus.ingest.paragraphs import split_paragraphs
from bertline.components.corpus.ingest.reading import Advance, SourceFile, read_text

# Project Gutenberg's frame in its forms since 1991. The text lies between the last start and the first end after it.
START = re.compile(
    r"^[ \t]*\*\*\*? ?START OF (?:THE |THIS )?PROJECT GUTENBERG[^\n]*(?:\n[^\n*]+\*\*\*[^\n]*)?$|"
    r"^\*END\*? ?THE SMALL PRINT![^\n]*$|^\*END THE SMALL PRINT[^\n]*$",
    re.MULTILINE | re.IGNORECASE,
)
END = re.compile(
    r"^[ \t]*\*\*\*? ?END OF (?:THE |THIS )?PROJECT GUTENBERG|^[ \t]*End of (?:the |this )?Project Gutenberg|"
    r"^[ \t]*\*{3} START: FULL LICENSE",
    re.MULTILINE | re.IGNORECASE,
)
CREDITS = re.compile(
    r"(?:E-?text prepared|Produced|Transcribed|This e-?(?:text|book) was (?:prepared|produced)|HTML version|"
    r"Prepared|Scanned|Proofread|\[?Transcriber['’]s note|Note: Project Gutenberg)\b.{0,40}",
    re.IGNORECASE,
)

NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|"
    "eleventh|twelfth|last"
)
ROMAN = r"(?=[IVXLC])(?:X[LC]|L?X{0,4})?(?:I[XV]|V?I{0,4})"
NUMBER = rf"(?:\d{{1,3}}|{ROMAN}|(?i:(?:{NUMBER_WORDS})(?:[- ](?:{NUMBER_WORDS}))?))"
DIVISIONS = ("chapter", "book", "part", "volume", "stave", "letter", "adventure", "section", "canto", "act", "period")
DIVISION = "(?:" + "|".join(re.escape(form) for word in DIVISIONS for form in (word.title(), word.upper())) + ")"
# "CHAPTER XI. A Sneeze out of Season", "Part First", "First Period: ..."; not "Part I took away"
DIVISION_HEADING = re.compile(
    rf"(?:{DIVISION} {NUMBER}|(?:(?i:the ))?{NUMBER} {DIVISION})(?:\.|\b)(?:[\s.:,)—–-]+(?:[^a-z\s].{{0,120}})?)?"
)
NUMBER_HEADING = re.compile(rf"(?:{ROMAN}|\d{{1,3}})\.?")  # "IV." alone
# "II. The Red-headed League", "I MEET SIR HENRY CURTIS": never with a lower-case beginning or a sentence's end
NUMBERED_TITLE = re.compile(
    rf"(?=.*[^\W\d_]{{2}})"
    rf"(?:(?:{ROMAN}|\d{{1,3}})(?:[.:]|\s?[—–-])\s+[^a-z\s].{{0,70}}[^.!?,;]|{ROMAN}\.?\s[^a-z]{{3,90}})"
)
NAMED_HEADING = re.compile(
    r"(?i:preface|introduction|introductory|prologue|epilogue|conclusion|foreword|afterword|postscript|appendix|interlude|"
    r"author['’]s (?:note|preface)|l['’]envoi|finale)\b[^a-z]{0,60}[.:]?"
)
CONTENTS = re.compile(r"(?i:(?:table of )?contents|(?:list of )?illustrations|the end|finis)[.:]?")

CONTENTS_ENTRY = re.compile(rf"\b{ROMAN}\. [A-Z]")
MIN_CONTENTS_ENTRIES = 4  # a paragraph with as many numbered titles is a table of contents

ILLUSTRATION = re.compile(r"\[(?:illustration|frontispiece|picture|plate)\b[^\]]*+\]", re.IGNORECASE)
PAGE_NUMBER = re.compile(r"[\[{](?:(?:pg|page|p\.)\s*)?[\dxvi]{1,5}[\]}]", re.IGNORECASE)  # and a footnote's
EMPHASIS = re.compile(r"([_=])(?<!\w[_=])(?=\S)([^_=\n]+?)(?<=\S)\1(?!\w)")
HAS_WORD = re.compile(r"[^\W_]")

SENTENCE_MARKS = (".", "!", "?", ":", ";", ",", "…")
MAX_HEADING_CHARACTERS = 160
MAX_TITLE_CHARACTERS = 90
# Before the first heading less prose than this is a title page, a dedication or a motto.
MIN_FRONT_MATTER_CHARACTERS = 400


def read_book(file: SourceFile, counts: Counter[str], advance: Advance) -> Iterator[Document]:
    """The chapters of one book, numbered as they come: "book:pg84:003"; without headings the whole book."""
    text = read_text(file.path, counts, advance)
    counts["books.read"] += 1
    for number, (title, paragraphs) in enumerate(chapters(text), 1):
        yield Document(f"book:{one_line(file.stem)}:{number:03}", title, "\n".join(paragraphs), file.name)


def chapters(text: str) -> list[tuple[str, list[str]]]:
    """Title and paragraphs of each chapter that has prose; one nameless chapter for a book without headings."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for paragraph in split_paragraphs(_clean(strip_frame(text))):
        if _is_heading(paragraph):
            sections.append((one_line(paragraph), []))
        elif not _is_furniture(paragraph):
            sections[-1][1].append(one_line(paragraph))
    with_prose = [(title, _strip_titles(paragraphs)) for title, paragraphs in sections]
    kept = [(title, prose) for title, prose in with_prose if title and prose]
    front = with_prose[0][1]
    if sum(map(len, front)) >= MIN_FRONT_MATTER_CHARACTERS:
        kept.insert(0, ("", front))
    if kept:
        return kept
    everything = [paragraph for _, paragraphs in with_prose for paragraph in paragraphs]
    return [("", everything)]


def strip_frame(text: str) -> str:
    """`text` without Project Gutenberg's header, licence and credits; other text as it is."""
    starts = [match.end() for match in START.finditer(text)]
    if starts:
        text = text[starts[-1] :]
    if end := END.search(text):
        text = text[: end.start()]
    if not starts:
        return text
    blocks = re.split(r"\n\s*\n", text.lstrip("\n"), maxsplit=3)
    while blocks and (CREDITS.match(blocks[0].strip()) or not blocks[0].strip()):
        del blocks[0]
    return "\n\n".join(blocks)


def _clean(text: str) -> str:
    """`text` without page numbers and emphasis, each heading line between blank lines."""
    text = EMPHASIS.sub(r"\2", PAGE_NUMBER.sub("", ILLUSTRATION.sub("", text)))
    return "\n".join(f"\n{line}\n" if _is_heading_line(line.strip()) else line for line in text.split("\n"))


def _is_heading_line(line: str) -> bool:
    if len(line) > MAX_TITLE_CHARACTERS or not (line[:1].isupper() or line[:1].isdigit()):
        return False
    return bool(DIVISION_HEADING.fullmatch(line) or NUMBER_HEADING.fullmatch(line))


def _is_heading(paragraph: str) -> bool:
    if len(paragraph) > MAX_HEADING_CHARACTERS:
        return False
    patterns = (DIVISION_HEADING, NUMBER_HEADING, NUMBERED_TITLE, NAMED_HEADING)
    return any(pattern.fullmatch(paragraph) for pattern in patterns)


def _strip_titles(paragraphs: list[str]) -> list[str]:
    """A section's prose: without contents, and without the lines of title or author at its beginning."""
    for first, paragraph in enumerate(paragraphs):
        if not _belongs_to_heading(paragraph):
            return paragraphs[first:]
    return []


def _is_furniture(paragraph: str) -> bool:
    """Rows of asterisks, "Contents", "THE END", and titles in capitals, wherever they stand."""
    if not HAS_WORD.search(paragraph) or CONTENTS.fullmatch(paragraph):
        return True
    return paragraph.isupper() and _is_title(paragraph)


def _is_title(paragraph: str) -> bool:
    """Short and without the end of a sentence."""
    return len(paragraph) <= MAX_TITLE_CHARACTERS and paragraph.rstrip("\"'”’)")[-1:] not in SENTENCE_MARKS


def _belongs_to_heading(paragraph: str) -> bool:
    """What stands between a heading and the prose: titles, also long ones in capitals, and contents."""
    in_capitals = paragraph.isupper() and len(paragraph) <= MAX_HEADING_CHARACTERS
    return in_capitals or _is_title(paragraph) or len(CONTENTS_ENTRY.findall(paragraph)) >= MIN_CONTENTS_ENTRIES
