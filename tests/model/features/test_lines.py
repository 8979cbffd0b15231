"""Lines to rows as extract_features.py makes them, and the words among them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.model.features.lines import BASIC_WORDS, PIECES, UNITS, WORDS, Window, encode_windows
from bertline.tokenizer.normalize import basic_tokens
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

WORDS_KNOWN = "the man went to store . john johan ##son ' s house a b c d e é 力 un ##want ##ed"
TOKENIZER = WordPieceTokenizer(Vocabulary((*SPECIAL_TOKENS, *WORDS_KNOWN.split())))
TROUBLE = "ab the. '|\t\x0b\x1c\x85\xa0\u2028\u3000\0\u0301é力Σσς"
any_line = st.text(st.sampled_from(TROUBLE), max_size=25) | st.text(st.characters(exclude_characters="\n"), max_size=9)


def made(
    lines: Sequence[str], max_seq_length: int = 128, units: str = PIECES, most_tokens: int = 1 << 20
) -> list[Window]:
    return list(encode_windows(lines, TOKENIZER, max_seq_length, units, most_tokens))


def tokens_of(window: Window, line: int) -> list[str]:
    ids = window.rows["input_ids"][line, : window.lengths[line]].tolist()
    return [TOKENIZER.vocabulary.tokens[number] for number in ids]


def units_of(found: Sequence[Window]) -> list[list[str]]:
    return [
        window.labels[end - count : end]
        for window in found
        for end, count in zip(np.cumsum(window.unit_counts), window.unit_counts)
    ]


def by_the_original(line: str, max_seq_length: int) -> tuple[list[str], list[int]]:
    """Tokens and type ids: read_examples and convert_examples_to_features, restated."""
    line = line.strip()
    text_a, _, text_b = line.rpartition(" ||| ") if " ||| " in line else (line, "", "")
    tokens_a, tokens_b = TOKENIZER.tokenize(text_a), TOKENIZER.tokenize(text_b)
    if tokens_b:
        while len(tokens_a) + len(tokens_b) > max_seq_length - 3:
            (tokens_a if len(tokens_a) > len(tokens_b) else tokens_b).pop()
    else:
        tokens_a = tokens_a[: max_seq_length - 2]
    first = ["[CLS]", *tokens_a, "[SEP]"]
    second = [*tokens_b, "[SEP]"] if tokens_b else []
    return first + second, [0] * len(first) + [1] * len(second)


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("The man.\n", "[CLS] the man . [SEP]"),
        ("\n", "[CLS] [SEP]"),
        ("the ||| man\r\n", "[CLS] the [SEP] man [SEP]"),
        ("the ||| man ||| a", "[CLS] the [UNK] [UNK] [UNK] man [SEP] a [SEP]"),
        ("the ||| ", "[CLS] the [UNK] [UNK] [UNK] [SEP]"),
        ("the ||| \u0301", "[CLS] the [SEP]"),
        (" ||| the", "[CLS] [UNK] [UNK] [UNK] the [SEP]"),
    ],
)
def test_a_line_is_one_text_or_two(line: str, tokens: str) -> None:
    (window,) = made([line])
    assert tokens_of(window, 0) == tokens.split()


@given(st.lists(st.tuples(any_line, any_line).map(" ||| ".join) | any_line, min_size=1), st.integers(3, 12))
def test_rows_are_the_originals(lines: list[str], max_seq_length: int) -> None:
    (window,) = made(lines, max_seq_length)
    for number, line in enumerate(lines):
        tokens, types = by_the_original(line, max_seq_length)
        assert tokens_of(window, number) == tokens
        assert window.rows["segment_ids"][number, : len(tokens)].tolist() == types
        assert window.rows["input_mask"][number].sum() == len(tokens)
        assert window.is_cut[number] == (tokens != by_the_original(line, 10_000)[0])
    assert units_of([window]) == [by_the_original(line, max_seq_length)[0] for line in lines]


def test_words_have_the_places_of_their_pieces() -> None:
    line = "John Johanson's   house ||| unwanted 力力"
    (window,) = made([line, "a"], units=WORDS)
    assert units_of([window]) == [
        ["[CLS]", "John", "Johanson's", "house", "[SEP]", "unwanted", "力力", "[SEP]"],
        ["[CLS]", "a", "[SEP]"],
    ]
    assert window.first_tokens.tolist() == [0, 1, 2, 6, 7, 8, 11, 13, 14, 15, 16]
    (window,) = made([line], units=BASIC_WORDS)
    expected = ["[CLS]", "John", "Johanson", "'", "s", "house", "[SEP]", "unwanted", "力", "力", "[SEP]"]
    assert units_of([window]) == [expected]
    assert window.first_tokens.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 11, 12, 13]


def test_words_that_are_cut_off_have_no_vector_and_one_that_is_cut_keeps_its_pieces() -> None:
    (window,) = made(["a johanson b c ||| unwanted d e"], 8, WORDS)
    assert tokens_of(window, 0) == ["[CLS]", "a", "johan", "##son", "[SEP]", "un", "##want", "[SEP]"]
    assert units_of([window]) == [["[CLS]", "a", "johanson", "[SEP]", "unwanted", "[SEP]"]]
    assert window.first_tokens.tolist() == [0, 1, 2, 4, 5, 7]
    (window,) = made(["a b c d ||| e"], 4, WORDS)
    assert units_of([window]) == [["[CLS]", "a", "[SEP]"]]


def test_a_word_without_pieces_has_the_place_of_the_next_piece() -> None:
    (window,) = made(["a \u0301 b \u0301"], units=WORDS)
    assert units_of([window]) == [["[CLS]", "a", "\u0301", "b", "\u0301", "[SEP]"]]
    assert window.first_tokens.tolist() == [0, 1, 2, 2, 3, 3]


@given(st.lists(any_line, min_size=1), st.integers(3, 12))
def test_words_never_change_the_rows(lines: list[str], max_seq_length: int) -> None:
    found = {units: made(lines, max_seq_length, units)[0] for units in UNITS}
    pieces = found[PIECES]
    for window in found.values():
        assert all((window.rows[name] == pieces.rows[name]).all() for name in pieces.rows)
        assert window.first_tokens[0] == 0
        assert (np.diff(window.first_tokens) >= 0).all()
        assert len(window.labels) == len(window.first_tokens) == window.unit_counts.sum()
    for line, labels in zip(lines, units_of([made(lines, 10_000, BASIC_WORDS)[0]])):
        assert len(labels) - labels.count("[SEP]") - 1 <= len(basic_tokens(line, do_lower_case=True))


@given(st.lists(any_line, min_size=1, max_size=20), st.integers(1, 40), st.sampled_from(UNITS))
def test_windows_are_parts_of_the_whole(lines: list[str], most_tokens: int, units: str) -> None:
    (whole,), parts = made(lines, 9, units), made(lines, 9, units, most_tokens)
    assert [part.first_line for part in parts] == np.cumsum([0, *map(len, parts)])[:-1].tolist()
    assert units_of(parts) == units_of([whole])
    tokens = np.cumsum([0, *(part.lengths.sum() for part in parts)])
    firsts = np.concatenate([begin + part.first_tokens for begin, part in zip(tokens, parts)])
    assert firsts.tolist() == whole.first_tokens.tolist()
    rows = [tokens_of(part, line) for part in parts for line in range(len(part))]
    assert rows == [tokens_of(whole, line) for line in range(len(whole))]
    assert all(part.lengths[:-1].sum() <= most_tokens for part in parts)
    assert all(part.rows["input_ids"].shape == (len(part), part.lengths.max()) for part in parts)
