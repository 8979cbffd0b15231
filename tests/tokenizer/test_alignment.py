"""Places of pieces and words in the original text."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.alignment import align_words, place_pieces, placed_words, word_starts
from bertline.tokenizer.normalize import basic_tokens, is_punctuation, strip_accents
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

# Characters that change their number, their order or their neighbours' fate, or vanish.
TROUBLE = (
    "aZ .'$\t\n\0\u00ad\u200d\ufffd\u2028éÉe\u0301\u0345İıßΣσς中豈각\u1100\u1161\u302e\U0001d165\U0001d15e\u1b44க்षি¿"
)
any_text = st.text(st.sampled_from(TROUBLE), max_size=30) | st.text(st.characters(), max_size=30)


def tokenizer_for(text: str, do_lower_case: bool) -> WordPieceTokenizer:
    """Knows most letters of `text`, some of them in pairs."""
    words = basic_tokens(text, do_lower_case)
    letters = sorted({letter for word in words for letter in word})
    letters = letters[: len(letters) - len(letters) // 5]
    pairs = [word[begin : begin + 2] for word in words for begin in range(0, len(word) - 1, 3)]
    tokens = [*letters, *pairs, *(f"##{piece}" for piece in [*letters, *pairs])]
    return WordPieceTokenizer(Vocabulary((*SPECIAL_TOKENS, *tokens)), do_lower_case)


def placed(text: str, pieces: str) -> list[tuple[str, int, int]]:
    """The pieces of a text with their places, for a vocabulary of `pieces`."""
    tokenizer = WordPieceTokenizer(Vocabulary((*SPECIAL_TOKENS, *pieces.split())))
    found = place_pieces(tokenizer, text)
    assert [number for number, _, _ in found] == tokenizer.encode(text)
    return [(tokenizer.vocabulary.tokens[number], start, end) for number, start, end in found]


def test_pieces_lie_where_they_were_written():
    assert placed(" John  Johanson's,", "john johan ##son ' s ,") == [
        ("john", 1, 5),
        ("johan", 7, 12),
        ("##son", 12, 15),
        ("'", 15, 16),
        ("s", 16, 17),
        (",", 17, 18),
    ]
    assert placed("", "a") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cafés", [("ca", 0, 2), ("##fe", 2, 4), ("##s", 4, 5)]),
        ("Cafe\u0301s", [("ca", 0, 2), ("##fe", 2, 5), ("##s", 5, 6)]),  # the accent belongs to its letter
        ("\u0301ca \u0301", [("ca", 1, 3)]),
        ("c\u00ada\0s\u200d", [("ca", 0, 3), ("##s", 4, 5)]),  # a soft hyphen, a NUL and a joiner are dropped
    ],
)
def test_accents_and_dropped_characters(text, expected):
    assert placed(text, "ca ##fe ##s") == expected


def test_letters_that_change_their_number():
    assert placed("İa", "i ##a") == [("i", 0, 1), ("##a", 1, 2)]  # lower-cased to i and a dot above
    assert placed("ﬁ각\u11a8", "ﬁ\u1100 ##\u1161 ##\u11a8") == [  # a Hangul syllable is three letters
        ("ﬁ\u1100", 0, 2),
        ("##\u1161", 1, 2),
        ("##\u11a8", 1, 2),
        ("##\u11a8", 2, 3),
    ]


def test_final_sigmas_ideographs_and_moved_marks():
    assert placed("ΟΣ Σa", "ος σ ##a") == [("ος", 0, 2), ("σ", 3, 4), ("##a", 4, 5)]
    assert placed("a中\u3000文b", "a 中 文 b") == [("a", 0, 1), ("中", 1, 2), ("文", 3, 4), ("b", 4, 5)]
    assert placed("a\u302e\U0001d165", "a\U0001d165 ##\u302e") == [("a\U0001d165", 0, 2), ("##\u302e", 2, 3)]


def test_unknown_words_lie_where_the_whole_word_does():
    text = f"ab abx {'a' * 200} {'a' * 201}."
    expected = [("a", 0, 1), ("##b", 1, 2), ("[UNK]", 3, 6), ("[UNK]", 208, 409), ("[UNK]", 409, 410)]
    found = placed(text, "a ##a ##b")
    assert [*found[:3], *found[203:]] == expected
    assert found[3:203] == [("a" if place == 7 else "##a", place, place + 1) for place in range(7, 207)]


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_offsets_hold_for_any_text(do_lower_case):
    @given(any_text)
    def check(text: str) -> None:
        tokenizer = tokenizer_for(text, do_lower_case)
        pieces = np.array(place_pieces(tokenizer, text), np.int64).reshape(-1, 3)
        ids, starts, ends = pieces.T
        assert ids.tolist() == tokenizer.encode(text)
        assert (starts >= 0).all() and (starts < ends).all() and (ends <= len(text)).all()
        assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()
        overlaps = ends[:-1] - starts[1:]
        assert (overlaps <= 1).all()
        for shared in starts[1:][overlaps == 1].tolist():
            assert len(strip_accents(text[shared].lower())) > 1

    check()


@given(st.text(st.characters(categories=["L", "Nd", "Po"], max_codepoint=0x24F), max_size=30))
def test_spans_of_simple_texts_normalise_to_their_pieces(text):
    tokenizer = tokenizer_for(text, do_lower_case=True)
    for number, start, end in place_pieces(tokenizer, text):
        if number != tokenizer.vocabulary.unk_id:
            piece = tokenizer.vocabulary.tokens[number]
            assert basic_tokens(text[start:end], do_lower_case=True) == [piece.removeprefix("##") or piece]


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_words_begin_where_their_first_letters_do(do_lower_case):
    @given(st.lists(any_text, max_size=4))
    def check(texts: list[str]) -> None:
        joined = "".join(f"{text}\n" for text in texts)
        words = list(placed_words(joined, do_lower_case))
        starts, lasting = word_starts(texts, do_lower_case)
        assert [word.letters for word in words] == [
            word for text in texts for word in basic_tokens(text, do_lower_case)
        ]
        assert starts.tolist() == [word.starts[0] for word in words]
        assert lasting.tolist() == [basic_tokens(char, do_lower_case) != [] for char in joined]

    check()


def test_no_character_becomes_letters_and_punctuation_at_once():
    for char in map(chr, range(sys.maxunicode + 1)):
        letters = strip_accents(char.lower())
        assert len(letters) < 2 or not any(is_punctuation(letter) or letter.isspace() for letter in letters)


def test_the_readmes_example_of_alignment():
    tokens = ["[UNK]", "john", "johan", "##son", "'", "s", "house"]
    ids, first_pieces = align_words(WordPieceTokenizer(Vocabulary(tuple(tokens))), ["John", "Johanson", "'s", "house"])
    assert ids.dtype == np.int32 and [tokens[number] for number in ids] == tokens[1:]
    assert first_pieces.dtype == np.int64 and first_pieces.tolist() == [0, 1, 3, 5]
    assert (first_pieces + 1).tolist() == [1, 2, 4, 6]  # with [CLS] in front


def test_words_without_pieces_point_at_the_next_piece():
    tokenizer = WordPieceTokenizer(Vocabulary((*SPECIAL_TOKENS, "a", "b")))
    ids, first_pieces = align_words(tokenizer, ["", "a", "\u0301", "\n", "b c", ""])
    assert ids.tolist() == [5, 6, 1] and first_pieces.tolist() == [0, 0, 1, 1, 1, 3]
    assert align_words(tokenizer, [])[1].tolist() == []
