"""BERT's basic tokenization, rule by rule, and the fast form against the slow exact one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.normalize import LineNormalizer, basic_tokens

# Characters at which implementations differ: sigmas, movable marks, blanks, controls, CJK, Hangul, Thai, Indic.
TROUBLE = (
    "Σσς\u0345\u0301\u0300\u302e\u302f\U0001d165\U0001d15e\u1b44\u0f71\u0f74 \t\r\n\u00a0\u2028\u2029\u0085"
    "\u3000\0\ufffd\x1c\x7f\u00ad\u200b\u200d\ufeffİIıßẞÅé中文𠀀豈가각\u1100\u1161ไทยกำक्षिণেস।॥.,$^`~'[]#aZ09\u2019\u201c…¿\ue000\U000e0001"
)
trouble = st.text(st.sampled_from(TROUBLE), max_size=40)


def expected(lines: list[str], do_lower_case: bool) -> list[str]:
    return [word for line in lines for word in basic_tokens(line, do_lower_case)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("John Johanson's, ", ["john", "johanson", "'", "s", ","]),
        (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
        ("H\u00e9llo", ["hello"]),
        ("ah\u535a\u63a8zz", ["ah", "\u535a", "\u63a8", "zz"]),
        ("[MASK] and [CLS]", ["[", "mask", "]", "and", "[", "cls", "]"]),
        ("ΟΔΟΣ Σ ΑΣ.Β", ["οδος", "σ", "ασ", ".", "β"]),  # a final sigma; "." does not end a word for it
        ("a\0b a\ufffdb a\u00adb a\x1fb", ["ab", "ab", "ab", "ab"]),
        ("a\u00a0b\u3000c\u2028d\u0085e", ["a", "b", "c", "de"]),
        ("$5 x^2 `a` ~", ["$", "5", "x", "^", "2", "`", "a", "`", "~"]),
        ("カタカナ 한국어", ["カタカナ", "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"]),
        ("", []),
        (" \u0301 ", []),  # a word of accents alone vanishes
    ],
)
def test_uncased_words(text, words):
    assert basic_tokens(text, do_lower_case=True) == words


def test_cased_words_keep_case_and_accents():
    assert basic_tokens("H\u00e9LLo, ΟΔΟΣ", do_lower_case=False) == ["H\u00e9LLo", ",", "ΟΔΟΣ"]


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_fast_form_is_exact_on_trouble(do_lower_case):
    normalizer = LineNormalizer(do_lower_case)

    @given(st.lists(trouble | st.text(max_size=20), max_size=6))
    def check(lines: list[str]) -> None:
        assert normalizer.words(lines) == expected(lines, do_lower_case)

    check()


def test_fast_form_is_exact_on_pairs_of_trouble():
    normalizer = LineNormalizer(do_lower_case=True)
    lines = [f"{a}{b} x{a}{b}y {a}\u0301{b}Σ" for a in TROUBLE for b in TROUBLE]
    assert normalizer.words(lines) == expected(lines, do_lower_case=True)


def test_run_cache_starts_afresh_when_full(monkeypatch):
    monkeypatch.setattr("bertline.tokenizer.normalize.CACHED_RUNS", 2)
    normalizer = LineNormalizer(do_lower_case=True)
    assert normalizer.words(["é ü ö å é ü"]) == ["e", "u", "o", "a", "e", "u"]
    assert len(normalizer._runs) <= 2


def test_every_line_ends_with_the_only_newline():
    assert LineNormalizer(do_lower_case=True).to_bytes(["A\nb", "", "\r\tC"]) == b"a b\n\n  c\n"
