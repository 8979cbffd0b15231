"""Words by number: bounded, exact when keys are equal by chance, whole after an interrupt."""

import numpy as np
import pytest

from bertline.tokenizer.wordtable import LINE_END, LONG_WORD, WordTable


def as_text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def lengths(word: bytes) -> list[int]:
    """Stands for the pieces of a word."""
    return [len(word), 7]


def test_words_have_numbers_and_pieces():
    table = WordTable(10, [0])
    numbers, position = table.number(as_text("ab c,ab\n\n,\n"), 0, lengths)
    assert numbers.tolist() == [1, 2, 3, 1, LINE_END, LINE_END, 3, LINE_END] and position == 11
    ids, line_ends = table.pieces(numbers)
    assert ids.tolist() == [2, 7, 1, 7, 1, 7, 2, 7, 1, 7] and line_ends.tolist() == [8, 8, 10]


def test_it_stops_before_a_word_without_room():
    table = WordTable(2, [0])
    text = as_text("a b a c b\n")
    numbers, position = table.number(text, 0, lengths)
    assert numbers.tolist() == [1, 2, 1] and bytes(text[position:]).strip() == b"c b"
    table.clear()
    assert table.number(text, position, lengths)[0].tolist() == [1, 2, LINE_END]


def test_the_bytes_of_all_words_are_bounded():
    table = WordTable(3, [0])
    words = [letter * 300 for letter in "abc"]
    numbers, position = table.number(as_text(" ".join(words) + "\n"), 0, lengths)
    assert numbers.tolist() == [1, 2] and position == 602


def test_words_too_long_to_be_split_are_not_kept():
    table = WordTable(3, [9])
    numbers, _ = table.number(as_text(f"{'a' * 801} {'a' * 800} {'b' * 5000}\n"), 0, lengths)
    assert numbers.tolist() == [LONG_WORD, 1, LONG_WORD, LINE_END]
    assert table.pieces(numbers)[0].tolist() == [9, 800, 7, 9]


@pytest.mark.parametrize(("word", "number"), [("abcdefgh", 1), ("abcdefghi", 2)])
def test_equal_keys_alone_do_not_make_words_equal(word, number):
    table = WordTable(3, [0])
    table.number(as_text(word + "\n"), 0, lengths)
    table._letters[0] = ord("x")  # as if another word had the same key; up to 8 bytes the key is the word
    assert table.number(as_text(word + "\n"), 0, lengths)[0].tolist() == [number, LINE_END]


def test_no_word_stays_without_its_pieces():
    def interrupted(word: bytes) -> list[int]:
        raise KeyboardInterrupt

    table = WordTable(3, [0])
    with pytest.raises(KeyboardInterrupt):
        table.number(as_text("a b\n"), 0, interrupted)
    numbers, _ = table.number(as_text("b a\n"), 0, lengths)
    assert table.pieces(numbers)[0].tolist() == [1, 7, 1, 7] and len(table) == 3
