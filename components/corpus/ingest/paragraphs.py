"""Plain text to paragraphs: lines broken at a page's width are joined, whichever way paragraphs are marked."""

import re
from collections.abc import Iterator

# A line longer than any page is wide holds a whole paragraph. Project Gutenberg wraps at 75 characters or fewer.
MAX_WRAPPED_CHARACTERS = 100
# Where blank lines are so rare, they separate chapters and not paragraphs.
MAX_LINES_PER_PARAGRAPH = 40

SENTENCE_ENDS = ".!?:…。！？”’\"'—-"
DIVIDED_WORD = re.compile(r"\b[^\W\d_]++-\n\s*[^\W\d_]+")
WORD = re.compile(r"[^\W\d_]+")


def split_paragraphs(text: str) -> list[str]:
    """The paragraphs of `text`, each as one line; heading lines stay paragraphs of their own where they can.

    Three kinds of text are told apart: a paragraph a line; lines wrapped, with blank lines (or nothing
    but white space) between paragraphs; lines wrapped without blank lines, where a line that had room for the next
    word ends a paragraph.
    """
    lines = [line.rstrip() for line in text.split("\n")]
    full = sorted(len(line) for line in lines if line)
    if not full:
        return []
    width = full[int(len(full) * 0.95)]
    if width > MAX_WRAPPED_CHARACTERS:
        return [line.strip() for line in lines if line.strip()]
    groups = list(_between_blank_lines(lines))
    if len(full) > MAX_LINES_PER_PARAGRAPH * len(groups):
        groups = [paragraph for group in groups for paragraph in _at_short_lines(group, width)]
    words = _words(text) if "-\n" in text else set()
    return [_join(group, words) for group in groups]


def _between_blank_lines(lines: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            group.append(line)
        elif group:
            yield group
            group = []


def _at_short_lines(lines: list[str], width: int) -> Iterator[list[str]]:
    """A line ends its paragraph if the next line is indented, or its first word would have fitted."""
    group: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""]):
        group.append(line)
        first_word = following.split(maxsplit=1)[0] if following.strip() else ""
        has_room = len(line) + 1 + len(first_word) <= width
        starts = following[:1].isspace() and not line[:1].isspace()
        if not following or starts or (has_room and (line[-1] in SENTENCE_ENDS or line.isupper())):
            yield group
            group = []


def _join(lines: list[str], words: set[str]) -> str:
    """One line of several; a word divided at a line's end is put together if the text has it elsewhere."""
    pieces: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""]):
        line, following = line.strip(), following.strip()
        if line.endswith("--") and following:
            pieces.append(line)
        elif line.endswith("-") and line[-2:-1].isalpha() and following[:1].islower():
            whole = line[:-1].rpartition(" ")[2] + following.split(maxsplit=1)[0]
            pieces.append(line[:-1] if re.sub(r"\W", "", whole).lower() in words else line)
        else:
            pieces.append(line + " ")
    return "".join(pieces).rstrip()


def _words(text: str) -> set[str]:
    """The words that stand undivided in the text, lower case."""
    return set(WORD.findall(DIVIDED_WORD.sub(" ", text).lower()))
