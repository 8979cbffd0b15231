"""Units that are masked whole: Chinese words, phrases and entities."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.alignment import place_pieces
from bertline.tokenizer.normalize import basic_tokens
from bertline.tokenizer.segment import Segmented, Segmenter, encode_units, segmenter
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

WORDS = ["使用", "语言", "模型", "来", "预测", "下", "一个", "词", "的", "概率", "。"]  # Chinese-BERT-wwm's README
JOINED = ["_".join(word) for word in WORDS]
SENTENCE = "".join(WORDS)
CITY = "哈尔滨是黑龙江的省会，国际冰雪文化名城。"  # ERNIE 1.0
TROUBLE = "ab'. 中文豈é\u0301\u0345\0\u00ad\u2028\n\t각Σİ\u302e"


def tokenizer_for(*texts: str, do_lower_case: bool = True) -> WordPieceTokenizer:
    """Knows all letters of the texts."""
    letters = sorted({letter for text in texts for word in basic_tokens(text, do_lower_case) for letter in word})
    tokens = (*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters))
    return WordPieceTokenizer(Vocabulary(tokens), do_lower_case)


def units(line: str, segment: Segmenter) -> list[str]:
    """The pieces of `line` with "_" between those that belong together."""
    tokenizer = tokenizer_for(line)
    ids, offsets, continues = encode_units(tokenizer, [line], segment)
    assert ids.dtype == np.int32 and offsets.dtype == np.int64 and continues.dtype == np.bool_
    pieces = [tokenizer.vocabulary.tokens[number] for number in ids]
    return "".join(f"_{piece}" if joined else f" {piece}" for piece, joined in zip(pieces, continues)).split()


def test_words_of_jieba_belong_together():
    segment = segmenter("jieba")
    assert segment(SENTENCE) == Segmented(
        SENTENCE, [(0, 2), (2, 4), (4, 6), (6, 7), (7, 9), (9, 10), (10, 12), (12, 13), (13, 14), (14, 16), (16, 17)]
    )
    assert units(SENTENCE, segment) == JOINED
    assert segment("") == Segmented("", [])


def test_words_between_blanks_belong_together():
    line = " ".join(WORDS)
    segment = segmenter("presegmented")
    assert segment(line).text == line and [line[start:end] for start, end in segment(line).units] == WORDS
    assert units(line, segment) == JOINED
    assert tokenizer_for(line).encode(line) == tokenizer_for(line).encode(SENTENCE)


def test_given_spans_belong_together():
    segment = segmenter("spans")
    assert segment(f"{CITY}\t0-3 4-7") == Segmented(CITY, [(0, 3), (4, 7)])
    expected = ["哈_尔_滨", "是", "黑_龙_江", *CITY[7:]]
    assert units(f"{CITY}\t0-3 4-7", segment) == expected
    assert segment(CITY) == Segmented(CITY, []) and segment(f"{CITY}\t") == Segmented(CITY, [])
    assert units(CITY, segment) == list(CITY)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("3-0", "span 3-0 is empty, reversed or beyond"),
        ("2-2", "span 2-2 is empty"),
        ("0-3 2-4", "span 2-4 begins before the end of the one before it"),
        ("4-7 0-3", "span 0-3 begins before the end"),
        ("0-21", "span 0-21 is empty, reversed or beyond the sentence's 20 characters"),
        ("0-b", "span '0-b' is not START-END"),
        ("0-1-2", "span '0-1-2' is not START-END"),
        ("5", "span '5' is not START-END"),
    ],
)
def test_bad_spans_are_refused_by_name(listed, message):
    with pytest.raises(ValueError, match=message) as raised:
        segmenter("spans")(f"{CITY}\t{listed}")
    assert CITY in str(raised.value)


def test_a_function_of_the_users(monkeypatch, tmp_path):
    (tmp_path / "words_by_two.py").write_text("def words_of(line):\n    return [line[:2], line[3:5]]\n")
    monkeypatch.syspath_prepend(tmp_path)
    segment = segmenter("words_by_two:words_of")
    assert segment("使用语言模型") == Segmented("使用语言模型", [(0, 2), (3, 5)])
    assert units("使用语言模型", segment) == ["使_用", "语", "言_模", "型"]


def test_words_that_are_not_in_the_line_are_refused(monkeypatch, tmp_path):
    (tmp_path / "words_elsewhere.py").write_text("def words_of(line):\n    return ['语言', '使用']\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"words_elsewhere:words_of: no word '使用' in '模型', the rest of the line"):
        segmenter("words_elsewhere:words_of")("使用语言模型")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ltp", "unknown segmenter 'ltp'; known are jieba, presegmented, spans, and module:function"),
        ("no_such_module_anywhere:words", "No module named 'no_such_module_anywhere'; is no_such_module_anywhere on"),
        ("math:words", "math has no function 'words'"),
        ("math:", "math has no function ''"),
        (":words", "'' is not the name of a module"),
    ],
)
def test_unknown_segmenters_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        segmenter(name)


def test_units_stay_within_lines_and_join_pieces_of_words():
    segment = segmenter("presegmented")
    lines = ["a中", "中 don't", "", "ab"]
    tokenizer = tokenizer_for(*lines)
    _, offsets, continues = encode_units(tokenizer, lines, segment)
    assert [continues[begin:end].tolist() for begin, end in pairwise(offsets)] == [
        [False, True],
        [False, False, True, True, True, True],
        [],
        [False, True],
    ]
    assert [array.tolist() for array in encode_units(tokenizer, [], segment)] == [[], [0], []]


def test_a_unit_begins_with_its_first_letter():
    line = "中\0\u0301文中"
    assert units(line, lambda text: Segmented(text, [(1, 5)])) == ["中", "文_中"]


def test_a_piece_that_reaches_into_a_unit_is_its_first():
    assert units("ab中", lambda text: Segmented(text, [(1, 3)])) == ["a_##b_中"]


def random_units(text: str, cuts: list[int]) -> Segmented:
    """Every other stretch between the cuts is a unit."""
    places = sorted({min(cut, len(text)) for cut in cuts})
    return Segmented(text, list(pairwise(places))[::2])


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_fast_units_are_those_of_the_exact_offsets(do_lower_case):
    texts = st.text(st.sampled_from(TROUBLE), max_size=25) | st.text(st.characters(), max_size=15)

    @given(st.lists(st.tuples(texts, st.lists(st.integers(0, 25), max_size=8)), max_size=4))
    def check(lines: list[tuple[str, list[int]]]) -> None:
        segmented = [random_units(*line) for line in lines]
        tokenizer = tokenizer_for(*(line.text for line in segmented), do_lower_case=do_lower_case)
        remaining = iter(segmented)
        ids, offsets, continues = encode_units(tokenizer, [text for text, _ in lines], lambda _: next(remaining))
        for line, (begin, end) in zip(segmented, pairwise(offsets)):
            pieces = place_pieces(tokenizer, line.text)
            assert ids[begin:end].tolist() == [number for number, _, _ in pieces]
            expected = [
                tokenizer.vocabulary.tokens[number].startswith("##")
                or any(a < start < b and basic_tokens(line.text[a:start], do_lower_case) != [] for a, b in line.units)
                for number, start, _ in pieces
            ]
            assert continues[begin:end].tolist() == expected

    check()
