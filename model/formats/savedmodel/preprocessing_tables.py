"""Our tokenizer's rules and a vocabulary -> arrays that a graph of plain look-ups can follow exactly."""

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.normalize import FINAL_SIGMA, is_blank, is_cjk, is_dropped, is_punctuation
from bertline.tokenizer.wordpiece import CONTINUATION, Vocabulary

CODE_POINTS = 0x110000
PAGE = 256  # code points whose properties are kept together, equal pages once
# A property is a sum of these, and CLASS times the canonical combining class.
DROPPED, BLANK, ALONE, PUNCTUATION, MARK, CASED, IGNORABLE = (1 << bit for bit in range(7))
CLASS, CLASSES = 128, 256
UNASSIGNED = ("Cn", "Co", "Cs")  # categories of the most code points, with which no rule but that of ideographs deals
FIRST_ROOT, NEXT_ROOT = 0, 1  # nodes from which the first piece of a word, and its further ones, are spelt

Int32: TypeAlias = NDArray[np.int32]
Int64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class CharacterTables:
    """What becomes of every code point."""

    page_numbers: Int32  # [0x1100]
    pages: Int32  # [pages, 256], properties
    changed: Int64  # [changed], code points that lower-casing and decomposition change, ascending
    letters: Int64  # all that they become, one after the other
    letter_starts: Int64  # [changed + 1], where each one's letters begin


@dataclass(frozen=True)
class PieceTables:
    """A tree of all pieces, letter by letter."""

    edges: Int64  # [edges], node * CODE_POINTS + letter, ascending
    targets: Int64  # [edges], the node that each edge leads to
    ids: Int64  # [nodes], the piece that ends at each node; -1 where none does


@cache
def character_tables(do_lower_case: bool) -> CharacterTables:
    """Tables made by asking the tokenizer's own rules for every code point; takes about 2 s."""
    characters = [chr(code) for code in range(CODE_POINTS)]
    properties = np.array([_properties(char) for char in characters], np.int32)
    pages, page_numbers = np.unique(properties.reshape(-1, PAGE), axis=0, return_inverse=True)
    becomes = {code: _letters(char) for code, char in enumerate(characters)} if do_lower_case else {}
    changed = [code for code, letters in becomes.items() if letters != characters[code]]
    return CharacterTables(
        page_numbers=page_numbers.reshape(-1).astype(np.int32),
        pages=pages,
        changed=np.array(changed, np.int64),
        letters=_code_points("".join(becomes[code] for code in changed)),
        letter_starts=np.cumsum([0, *(len(becomes[code]) for code in changed)], dtype=np.int64),
    )


def piece_tables(vocabulary: Vocabulary) -> PieceTables:
    """The pieces of a vocabulary as a tree; of equal ones the last counts, as everywhere."""
    edges: dict[int, int] = {}
    ids = [-1, -1]
    for token, number in vocabulary.ids.items():
        # No word begins with "##": both are punctuation marks, words by themselves.
        inside = token.startswith(CONTINUATION) and token != CONTINUATION
        node = NEXT_ROOT if inside else FIRST_ROOT
        for letter in token.removeprefix(CONTINUATION) if inside else token:
            edge = node * CODE_POINTS + ord(letter)
            if edge not in edges:
                edges[edge] = len(ids)
                ids.append(-1)
            node = edges[edge]
        if node not in (FIRST_ROOT, NEXT_ROOT):  # an empty line
            ids[node] = number
    ordered = sorted(edges)
    return PieceTables(
        edges=np.array(ordered, np.int64),
        targets=np.array([edges[edge] for edge in ordered], np.int64),
        ids=np.array(ids, np.int64),
    )


def _properties(char: str) -> int:
    if unicodedata.category(char) in UNASSIGNED:
        return ALONE if is_cjk(char) else 0
    flags = (
        (DROPPED, is_dropped(char)),
        (BLANK, is_blank(char) or char.isspace()),
        (ALONE, is_cjk(char)),
        (PUNCTUATION, is_punctuation(char)),
        (MARK, unicodedata.category(char) == "Mn"),
        (CASED, _makes_sigma_final(char)),
        (IGNORABLE, _makes_sigma_final(f"a{char}") and not _makes_sigma_final(char)),
    )
    return sum(flag for flag, holds in flags if holds) + CLASS * unicodedata.combining(char)


def _makes_sigma_final(before: str) -> bool:
    """Whether a sigma after these letters is that of a word's end: the last one that is not ignorable is cased."""
    return f"{before}{FINAL_SIGMA}".lower().endswith("\N{GREEK SMALL LETTER FINAL SIGMA}")


def _letters(char: str) -> str:
    return unicodedata.normalize("NFD", char.lower())


def _code_points(text: str) -> Int64:
    return np.array([ord(letter) for letter in text], np.int64)
