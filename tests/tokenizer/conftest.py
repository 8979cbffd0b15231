"""The exact places of pieces, which the tests of words and units compare with."""

from collections.abc import Callable
from itertools import accumulate

import pytest

from bertline.tokenizer.alignment import placed_words
from bertline.tokenizer.wordpiece import CONTINUATION, WordPieceTokenizer

PlacedPiece = tuple[int, int, int]  # id, first character, the one after the last


@pytest.fixture(scope="session")
def placed_pieces() -> Callable[[WordPieceTokenizer, str], list[PlacedPiece]]:
    """Gives the pieces of a text with their places, by those of the words' letters; [UNK] is all of its word."""

    def find(tokenizer: WordPieceTokenizer, text: str) -> list[PlacedPiece]:
        placed = []
        for word in placed_words(text, tokenizer.do_lower_case):
            ids = tokenizer.word_ids(word.letters)
            sizes = [len(tokenizer.vocabulary.tokens[number].removeprefix(CONTINUATION)) for number in ids]
            sizes[:1] = [len(tokenizer.vocabulary.tokens[ids[0]])]  # a word may itself be "##"
            bounds = [0, *accumulate(sizes[:-1]), len(word.letters)]
            for number, first, last in zip(ids, bounds, bounds[1:]):
                placed.append((number, word.starts[first], word.ends[last - 1]))
        return placed

    return find
