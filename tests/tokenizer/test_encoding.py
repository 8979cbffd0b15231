"""Texts and pairs as a model reads them, and where each piece lies in its text."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.encoding import Encoding, encode_texts
from bertline.tokenizer.normalize import basic_tokens
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

PIECES = "the man went to store . a b c d e [ ] mask un ##want ##ed 力 ' s"
TOKENIZER = WordPieceTokenizer(Vocabulary((*SPECIAL_TOKENS, *PIECES.split())))
any_text = st.text(st.sampled_from("the man'Ábc.\u0301力 \t\0"), max_size=30) | st.text(max_size=9)


def encoded(text: Any, pair: Any = None, max_seq_length: int | None = None, **options: Any) -> Encoding:
    padding, split = options.get("padding", "longest"), options.get("split_special_tokens", True)
    return encode_texts(TOKENIZER, text, pair, max_seq_length, padding, split)


def test_a_text_has_its_tokens_and_places() -> None:
    found = encoded("The man's Unwanted.")
    assert found.tokens == ["[CLS]", "the", "man", "'", "s", "un", "##want", "##ed", ".", "[SEP]"]
    expected = [(0, 0), (0, 3), (4, 7), (7, 8), (8, 9), (10, 12), (12, 16), (16, 18), (18, 19), (0, 0)]
    assert [tuple(place) for place in found.offsets.tolist()] == expected
    assert found.input_ids.dtype == np.int32 and found.input_ids.shape == (10,)
    assert found.input_mask.tolist() == [1] * 10 and found.segment_ids.tolist() == [0] * 10
    assert not found.is_cut and len(found) == 10
    assert repr(found) == "<Encoding of 10 tokens: [CLS] the man ' s un ##want ##ed . [SEP]>"


def test_pairs_count_their_places_each_in_its_own_text() -> None:
    found = encoded(["the man", "a"], ["b c d", "\u0301"])
    assert [row.tokens for row in found] == [
        ["[CLS]", "the", "man", "[SEP]", "b", "c", "d", "[SEP]"],
        ["[CLS]", "a", "[SEP]", "[SEP]"],
    ]
    assert found.segment_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0, 0]]
    assert found.offsets[0].tolist() == [[0, 0], [0, 3], [4, 7], [0, 0], [0, 1], [2, 3], [4, 5], [0, 0]]
    assert found.offsets[1].tolist() == [[0, 0], [0, 1], *[[0, 0]] * 6]
    assert repr(found) == "<Encoding of 2 texts, 8 tokens wide>"


def test_special_tokens_in_a_text_are_split_as_in_the_original_unless_they_shall_stay() -> None:
    assert encoded("the [MASK].").tokens == ["[CLS]", "the", "[", "mask", "]", ".", "[SEP]"]
    found = encoded("[MASK] the[MASK].", split_special_tokens=False)
    assert found.tokens == ["[CLS]", "[MASK]", "the", "[MASK]", ".", "[SEP]"]
    assert found.offsets.tolist() == [[0, 0], [0, 6], [7, 10], [10, 16], [16, 17], [0, 0]]
    several = encoded(["a [MASK]", "b"], split_special_tokens=False)
    assert [row.tokens[1:-1] for row in several] == [["a", "[MASK]"], ["b"]]


def test_nothing_is_cut_but_by_max_seq_length_and_a_cut_text_says_so() -> None:
    assert len(encoded("a b c d e " * 1000)) == 5002
    found = encoded(["a b c", "a"], max_seq_length=4)
    assert [row.tokens for row in found] == [["[CLS]", "a", "b", "[SEP]"], ["[CLS]", "a", "[SEP]"]]
    assert found.is_cut.tolist() == [True, False]
    assert found.offsets[0].tolist() == [[0, 0], [0, 1], [2, 3], [0, 0]]
    assert encoded("a", max_seq_length=7, padding="max_seq_length").input_ids.shape == (7,)
    assert encoded("a", max_seq_length=7).input_ids.shape == (3,)


def test_texts_of_several_are_found_by_numbers_and_slices() -> None:
    found = encoded(["the man", "a", "b c"], ["d", "e", "f"])
    some = found[1:]
    assert [row.tokens for row in some] == [found[1].tokens, found[-1].tokens]
    assert some.input_ids.shape == (2, 6)
    np.testing.assert_array_equal(some.offsets, found.offsets[1:])
    assert len(found[:0]) == 0 and found[:0].offsets.shape == (0, 6, 2)
    with pytest.raises(IndexError, match="there is no text 3; there are 3, numbered from 0"):
        found[3]
    with pytest.raises(TypeError, match=r"not by 'input_ids'; the arrays are encoding\.input_ids"):
        found["input_ids"]  # type: ignore[index]


def test_no_texts_are_no_rows() -> None:
    found = encoded([])
    assert (len(found), found.input_ids.shape[0], found.offsets.shape) == (0, 0, (0, 2, 2))
    assert len(encoded([], [])) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((5,), TypeError, "text is of type int, 5; give a text"),
        ((b"the",), TypeError, "type bytes"),
        ((["the", None],), TypeError, "text 1 of 2 is of type NoneType"),
        (("the", ["man"]), ValueError, "text is one, but pair is a list of 1"),
        ((["the"], ["man", "a"]), ValueError, "text is a list of 1, but pair is a list of 2"),
        (("the", None, 2), ValueError, "max_seq_length is 2; with its special tokens it must be at least 3"),
        (("the", "a", 4), ValueError, "at least 5"),
        (("the", None, 8.0), TypeError, "max_seq_length is 8.0; it must be a whole number"),
    ],
)
def test_what_is_no_text_is_refused(arguments: tuple[Any, ...], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        encoded(*arguments)


def test_impossible_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r'padding is "max_length"; did you mean max_seq_length\? known: longest'):
        encoded("a", padding="max_length")
    with pytest.raises(ValueError, match="give max_seq_length"):
        encoded("a", padding="max_seq_length")


def test_one_of_a_text_and_the_tokens_of_several_are_refused() -> None:
    with pytest.raises(TypeError, match="the encoding of one text"):
        encoded("a")[0]
    with pytest.raises(ValueError, match=r"encoding\[0\].tokens"):
        _ = encoded(["a"]).tokens


@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=4), st.integers(5, 14), st.booleans())
def test_rows_are_those_of_the_originals_classifier(texts: list[tuple[str, str]], length: int, in_pairs: bool) -> None:
    first, second = map(list, zip(*texts))
    pairs = second if in_pairs else None
    found = encoded(first, pairs, length, padding="max_seq_length")
    for name, rows in encode_pairs(TOKENIZER, first, pairs, length).items():
        np.testing.assert_array_equal(getattr(found, name), rows)
    for row, text, pair in zip(found, first, second):
        whole = len(TOKENIZER.encode(text)) + (len(TOKENIZER.encode(pair)) + 3 if in_pairs else 2)
        assert bool(row.is_cut) == (whole > length)


@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=3), st.none() | st.integers(5, 14))
def test_a_place_holds_the_letters_of_its_piece(texts: list[tuple[str, str]], length: int | None) -> None:
    found = encoded(*map(list, zip(*texts)), length)
    for row, of_row in zip(found, found.offsets.tolist(), strict=True):
        assert row.offsets.tolist() == of_row
        places = zip(row.tokens, row.segment_ids.tolist(), row.offsets.tolist())
        for token, segment, (start, end) in places:
            if token in ("[CLS]", "[SEP]"):
                assert (start, end) == (0, 0)
                continue
            part = row.texts[0][segment][start:end]
            letters = "".join(basic_tokens(part, do_lower_case=True))
            assert 0 <= start < end and (token == "[UNK]" or letters == token.removeprefix("##"))
