"""Text to words: BERT's basic tokenization, one rule at a time.

The exact statement of google-research/bert's `BasicTokenizer`. It is slow (about 0.7 MB/s) and easy to
check by reading; `bertline.tokenizer.lines` does the same for whole corpora and is tested against it.
"""

import unicodedata

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
