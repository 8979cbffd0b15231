"""Words -> their places in the original text and among the pieces, for tasks that label words or find answers.

Every step of basic tokenization is repeated here with the place of each character at hand; only the number
of letters that a character turns into is needed for that, the letters themselves come from
`bertline.tokenizer.normalize`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.normalize import is_blank, is_cjk, is_dropped, is_punctuation, strip_accents
from bertline.tokenizer.wordpiece import CONTINUATION, WordPieceTokenizer


@dataclass(frozen=True)
class PlacedWord:
    """A word as the vocabulary sees it, and where each of its letters comes from."""

    letters: str
    starts: list[int]  # [letters], places in the original text
    ends: list[int]  # [letters]


class PlacedPiece(NamedTuple):
    """A piece, and where it lies in the original text."""

    id: int
    start: int  # its first character
    end: int  # the one after its last


def align_words(tokenizer: WordPieceTokenizer, words: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The ids of all words, int32 [N], and the place of each word's first piece, int64 [len(words)].

    The README of google-research/bert calls the latter orig_to_tok_map. Special tokens are not counted:
    ["John", "Johanson", "'s", "house"] is john johan ##son ' s house with first pieces at [0, 1, 3, 5]; with
    [CLS] in front each stands one further, at [1, 2, 4, 6]. A word without pieces ("", a lone accent) has the
    place of the next piece, at the end that of the [SEP] that will follow.
    """
    ids, offsets = tokenizer.encode_lines(words)
    return ids, offsets[:-1]


def place_pieces(tokenizer: WordPieceTokenizer, text: str) -> list[PlacedPiece]:
    """The pieces of `encode` with the places of their letters, as `placed_words` has them; [UNK] is all of its word."""
    placed = []
    for word in placed_words(text, tokenizer.do_lower_case):
        ids = tokenizer.word_ids(word.letters)
        sizes = [len(tokenizer.vocabulary.tokens[number].removeprefix(CONTINUATION)) for number in ids]
        sizes[0] = len(tokenizer.vocabulary.tokens[ids[0]])  # a word may itself be "##"
        bounds = [0, *accumulate(sizes[:-1]), len(word.letters)]
        for number, (first, last) in zip(ids, pairwise(bounds)):
            placed.append(PlacedPiece(number, word.starts[first], word.ends[last - 1]))
    return placed


def placed_words(text: str, do_lower_case: bool) -> Iterator[PlacedWord]:
    """The words and punctuation marks of `basic_tokens`, with the places of their letters; about 0.2 MB/s.

    "Café" lies at 0-4, whether its accent is a character of its own (then 0-5) or not: a stripped accent belongs to the
    letter before it. Places are in order, never empty, and shared only by letters that one character became, as a
    Hangul syllable does. Where decomposition swaps two spacing marks, each takes the other's place.
    """
    for characters, places in _split_on_blanks(text):
        if do_lower_case:
            yield from _split_on_punctuation(_lower_case(characters, places))
        else:
            yield from _split_on_punctuation(PlacedWord(characters, places, [place + 1 for place in places]))


def _split_on_blanks(text: str) -> Iterator[tuple[str, list[int]]]:
    """What lies between blanks, ideographs alone, without dropped characters; and the places of the characters."""
    places: list[int] = []
    for place, char in enumerate(text):
        if is_dropped(char):
            continue
        apart = is_blank(char) or char.isspace() or is_cjk(char)
        if apart and places:
            yield "".join(text[kept] for kept in places), places
            places = []
        if is_cjk(char):
            yield char, [place]
        elif not apart:
            places.append(place)
    if places:
        yield "".join(text[kept] for kept in places), places


def _lower_case(characters: str, places: Sequence[int]) -> PlacedWord:
    """The whole word lower-cased and stripped, as neighbours matter; its letters in the order of their origins."""
    starts: list[int] = []
    ends: list[int] = []
    for char, place in zip(characters, places):
        letters = len(strip_accents(char.lower()))  # what neighbours change is never the number
        starts += [place] * letters
        ends += [place + 1] * letters
        if letters == 0 and ends:
            ends[-1] = place + 1
    return PlacedWord(strip_accents(characters.lower()), starts, ends)


def _split_on_punctuation(word: PlacedWord) -> Iterator[PlacedWord]:
    begin = 0
    for place, letter in enumerate(word.letters):
        if is_punctuation(letter):
            if begin < place:
                yield PlacedWord(word.letters[begin:place], word.starts[begin:place], word.ends[begin:place])
            yield PlacedWord(letter, [word.starts[place]], [word.ends[place]])
            begin = place + 1
    if begin < len(word.letters):
        yield PlacedWord(word.letters[begin:], word.starts[begin:], word.ends[begin:])


_DROPPED, _BLANK, _LETTER, _ALONE, _UNSEEN = 0, 1, 2, 3, 255


def word_starts(texts: Sequence[str], do_lower_case: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where all words of all texts begin, int64 [words], and which characters leave letters, bool [characters].

    Places count through the concatenated texts, with one blank after each.
    """
    codes = np.frombuffer("".join(f"{text}\n" for text in texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    fates = _fates_table(do_lower_case)
    found = fates[codes]
    for code in np.unique(codes[found == _UNSEEN]).tolist():
        fates[code] = _fate(chr(code), do_lower_case)
    found = fates[codes]
    lasting = found != _DROPPED
    places = np.flatnonzero(lasting)
    found = found[places]
    begins = found == _ALONE
    begins[:1] |= found[:1] == _LETTER
    begins[1:] |= (found[1:] == _LETTER) & (found[:-1] != _LETTER)
    lasting[places] = found != _BLANK
    return places[begins], lasting


@cache
def _fates_table(do_lower_case: bool) -> NDArray[np.uint8]:
    """What becomes of every code point, _UNSEEN until it is first met."""
    return np.full(0x110000, _UNSEEN, np.uint8)


def _fate(char: str, do_lower_case: bool) -> int:
    """Whether `char` vanishes, separates words, belongs to a word or is one by itself.

    No character turns into letters and punctuation marks at once.
    """
    if is_blank(char) or (char.isspace() and not is_dropped(char)):
        return _BLANK
    letters = "" if is_dropped(char) else strip_accents(char.lower()) if do_lower_case else char
    if not letters:
        return _DROPPED
    return _ALONE if is_cjk(char) or is_punctuation(letters[0]) else _LETTER
