"""Text to words: BERT's basic tokenization, one rule at a time, and the same at the speed of a corpus.

`basic_tokens` is the exact statement of google-research/bert's `BasicTokenizer`: slow (about 0.7 MB/s) and easy to
check by reading. `LineNormalizer` is tested against it. There ASCII goes through `bytes.translate`; other characters
go through a table filled on first sight, which is exact because each character's fate is its own; the few that look at
their neighbours send their piece of the line through `basic_tokens`.
"""

import re
import unicodedata
from collections.abc import Sequence

CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)  # ideographs; Kana and Hangul are written with spaces or left to the word pieces
FIRST_CJK = 0x3400
FINAL_SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}"  # lower-cased by its place in the word
CONTEXTUAL = "\0"  # stands for a character that looks at its neighbours; NUL itself is dropped anyway
NON_ASCII_RUN = re.compile(r"[^\x00-\x7f]+")
ASCII_PUNCTUATION = re.compile(rb"[!-/:-@\[-`{-~]")
CACHED_RUNS = 1 << 16  # then the cache starts afresh
CACHED_RUN_CHARACTERS = 32  # longer runs (Chinese sentences) do not come again


def basic_tokens(text: str, do_lower_case: bool) -> list[str]:
    """The words and punctuation marks of `text`, in order.

    >>> basic_tokens("John Johanson's, ", do_lower_case=True)
    ['john', 'johanson', "'", 's', ',']

    `do_lower_case` also strips accents, as the released uncased vocabularies expect. Markers such as
    "[MASK]" in running text are words like any other and fall apart into "[", "mask", "]".
    """
    marked = "".join(f" {char} " if is_cjk(char) else char for char in clean(text))
    words = marked.split()
    if do_lower_case:
        # Lower-casing sees the whole word, because a final sigma depends on its neighbours.
        words = [strip_accents(word.lower()) for word in words]
    separated = ("".join(f" {char} " if is_punctuation(char) else char for char in word) for word in words)
    return " ".join(separated).split()


def clean(text: str) -> str:
    """`text` without control and replacement characters, every kind of blank turned into a space."""
    return "".join(" " if is_blank(char) else char for char in text if not is_dropped(char))


def strip_accents(word: str) -> str:
    """`word` decomposed (NFD) and freed of its nonspacing marks: "é" becomes "e"."""
    return "".join(char for char in unicodedata.normalize("NFD", word) if unicodedata.category(char) != "Mn")


def is_blank(char: str) -> bool:
    """Whether `char` is turned into a space; separators of lines and paragraphs split words later."""
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def is_dropped(char: str) -> bool:
    """Whether `char` vanishes and joins its neighbours: NUL, U+FFFD, control and format characters."""
    return char == "\ufffd" or (char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf"))


def is_cjk(char: str) -> bool:
    """Whether `char` is an ideograph, which is a word by itself."""
    code = ord(char)
    return code >= FIRST_CJK and any(first <= code <= last for first, last in CJK_RANGES)


def is_punctuation(char: str) -> bool:
    """Whether `char` stands alone: Unicode's punctuation and all ASCII symbols, "$" and "^" included."""
    return (char.isascii() and char.isprintable() and not char.isalnum() and char != " ") or unicodedata.category(
        char
    ).startswith("P")


class LineNormalizer:
    """Turns lines into UTF-8 in which blanks, newlines and ASCII punctuation alone separate words."""

    def __init__(self, do_lower_case: bool) -> None:
        self._do_lower_case = do_lower_case
        self._characters = _CharacterTable(do_lower_case)
        self._runs: dict[str, str] = {}
        self._ascii_table = _ascii_table(do_lower_case)

    def to_bytes(self, lines: Sequence[str]) -> bytes:
        """One text of all lines, each ended by a newline that occurs nowhere else.

        Non-ASCII punctuation marks and ideographs have blanks around them; ASCII punctuation has not.
        """
        text = "".join(f"{line if line.isascii() else self._line(line)}\n" for line in lines)
        if text.count("\n") != len(lines):
            return self.to_bytes([line.replace("\n", " ") for line in lines])
        # Lone surrogates pass: the original sees them as letters that no vocabulary holds.
        return text.encode("utf-8", "surrogatepass").translate(self._ascii_table, _DELETED_ASCII)

    def words(self, lines: Sequence[str]) -> list[str]:
        """The words and punctuation marks of all lines, in order."""
        return ASCII_PUNCTUATION.sub(rb" \g<0> ", self.to_bytes(lines)).decode("utf-8", "surrogatepass").split()

    def _line(self, line: str) -> str:
        normalized = NON_ASCII_RUN.sub(self._run, line)
        if CONTEXTUAL in normalized:
            return " ".join(map(self._piece, line.split(" ")))
        return normalized

    def _piece(self, piece: str) -> str:
        """A piece of a line between two spaces; no rule looks beyond them."""
        normalized = NON_ASCII_RUN.sub(self._run, piece)
        if CONTEXTUAL in normalized:
            return " ".join(basic_tokens(piece, self._do_lower_case))
        return normalized

    def _run(self, match: re.Match[str]) -> str:
        run = match.group()
        if len(run) > CACHED_RUN_CHARACTERS:
            return run.translate(self._characters)
        normalized = self._runs.get(run)
        if normalized is None:
            if len(self._runs) >= CACHED_RUNS:
                self._runs.clear()
            normalized = self._runs[run] = run.translate(self._characters)
        return normalized


class _CharacterTable(dict[int, str]):
    """Code point -> what a non-ASCII character becomes, for `str.translate`; filled on demand."""

    def __init__(self, do_lower_case: bool) -> None:
        super().__init__()
        self._do_lower_case = do_lower_case

    def __missing__(self, code_point: int) -> str:
        char = chr(code_point)
        if is_dropped(char):
            self[code_point] = ""
        elif self._do_lower_case and _looks_at_neighbours(char):
            self[code_point] = CONTEXTUAL
        else:
            self[code_point] = self._normalize(char)
        return self[code_point]

    def _normalize(self, char: str) -> str:
        letters = strip_accents(char.lower()) if self._do_lower_case else char
        separated = "".join(
            f" {letter} " if is_punctuation(letter) else " " if letter.isspace() else letter for letter in letters
        )
        return f" {separated} " if is_cjk(char) else separated


def _ascii_table(do_lower_case: bool) -> bytes:
    table = bytearray(range(256))
    table[ord("\t")] = table[ord("\r")] = ord(" ")
    if do_lower_case:
        table[ord("A") : ord("Z") + 1] = bytes(range(ord("a"), ord("z") + 1))
    return bytes(table)


_DELETED_ASCII = bytes(code for code in range(128) if is_dropped(chr(code)))


def _looks_at_neighbours(char: str) -> bool:
    """Whether lower-casing or decomposition of `char` depends on the characters around it.

    Apart from the sigma, these keep a mark that is not nonspacing (Mn) and that canonical ordering may
    move past another one, such as U+302E and U+1D165.
    """
    return char == FINAL_SIGMA or any(map(unicodedata.combining, strip_accents(char)))
