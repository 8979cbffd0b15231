"""Word pieces: the original's cases, and the vectorised form against a statement of its loop."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.normalize import basic_tokens
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer, load_vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def reference_pieces(word: str, vocabulary: Vocabulary) -> list[str]:
    """The loop of google-research/bert's WordpieceTokenizer: the longest piece that matches, from the left."""
    if len(word) > 200:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        candidates = (word[start:end] if start == 0 else "##" + word[start:end] for end in ends)
        piece = next((candidate for candidate in candidates if candidate in vocabulary.ids), None)
        if piece is None:
            return ["[UNK]"]
        pieces.append(piece)
        start += len(piece) - (2 if start else 0)
    return pieces


def reference_ids(line: str, vocabulary: Vocabulary, do_lower_case: bool) -> list[int]:
    words = basic_tokens(line, do_lower_case)
    return [vocabulary.ids[piece] for word in words for piece in reference_pieces(word, vocabulary)]


def encoded_lines(tokenizer: WordPieceTokenizer, lines: list[str]) -> list[list[int]]:
    ids, offsets = tokenizer.encode_lines(lines)
    assert ids.dtype == np.int32 and offsets.dtype == np.int64 and len(offsets) == len(lines) + 1
    return [ids[start:end].tolist() for start, end in pairwise(offsets)]


@pytest.fixture
def small() -> WordPieceTokenizer:
    tokens = ["[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
    return WordPieceTokenizer(Vocabulary(tuple(tokens)))


def test_the_originals_unit_test(small):
    assert small.tokenize("UNwant\u00e9d,running") == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert small.encode("UNwant\u00e9d,running") == [7, 4, 5, 10, 8, 9]


def test_a_word_with_an_unknown_part_is_unknown_as_a_whole(small):
    assert small.tokenize("unwanted runningx") == ["un", "##want", "##ed", "[UNK]"]
    assert small.tokenize("") == []


def test_the_readmes_example_of_pieces():
    tokenizer = WordPieceTokenizer(Vocabulary(("[UNK]", "john", "johan", "##son", "'", "s", ",", "house")))
    assert tokenizer.tokenize("John Johanson's,") == ["john", "johan", "##son", "'", "s", ","]
    assert tokenizer.tokenize("John Johanson 's house") == ["john", "johan", "##son", "'", "s", "house"]


def test_special_tokens_in_running_text_are_plain_text():
    vocabulary = Vocabulary((*SPECIAL, "[", "]", "mask"))
    assert WordPieceTokenizer(vocabulary).tokenize("[MASK]") == ["[", "mask", "]"]


def test_words_of_200_characters_are_split_and_longer_ones_unknown():
    tokenizer = WordPieceTokenizer(Vocabulary((*SPECIAL, "a", "##a", "é", "##é")), do_lower_case=False)
    for letter in "aé":
        assert [len(tokenizer.encode(letter * length)) for length in (23, 24, 25, 199, 200, 201)] == [
            23,
            24,
            25,
            199,
            200,
            1,
        ]
    assert tokenizer.tokenize("a" * 201) == ["[UNK]"]


def test_pieces_longer_than_a_table_key():
    long = "supercalifragilisticexpialidocious"
    vocabulary = Vocabulary((*SPECIAL, long, f"##{long}", long[:24], long[:25], "ö" * 30, f"##{'ö' * 30}"))
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=False)
    text = f"{long}{long} {long[:24]} {long[:25]} {long[:26]} {'ö' * 60} {long}"
    assert tokenizer.tokenize(text) == [
        long,
        f"##{long}",
        long[:24],
        long[:25],
        "[UNK]",
        "ö" * 30,
        f"##{'ö' * 30}",
        long,
    ]


def test_words_of_four_bytes_a_character_have_the_same_limit():
    vocabulary = Vocabulary((*SPECIAL, "𝔞", "##𝔞", "a"))
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=False)
    lengths = (1, 2, 6, 199, 200, 201, 202, 500)
    assert [len(tokenizer.encode("𝔞" * length)) for length in lengths] == [1, 2, 6, 199, 200, 1, 1, 1]
    assert tokenizer.tokenize(f"a {'𝔞' * 201} a {'𝔞' * 199}b") == ["a", "[UNK]", "a", "[UNK]"]


def test_words_that_share_their_first_bytes_are_told_apart():
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [letters[:length] + last for length in range(26) for last in "xyz"]
    vocabulary = Vocabulary((*SPECIAL, *words))
    tokenizer = WordPieceTokenizer(vocabulary)
    assert tokenizer.tokenize(" ".join(words * 2)) == words * 2


def test_threads_may_share_a_tokenizer():
    vocabulary = Vocabulary((*SPECIAL, *"0123456789", *(f"##{digit}" for digit in "0123456789")))
    tokenizer = WordPieceTokenizer(vocabulary)
    texts = [" ".join(map(str, range(first, first + 3000))) for first in range(0, 40_000, 2000)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(tokenizer.encode, texts))
    assert results == [[vocabulary.ids[piece] for piece in pieces_of_digits(text)] for text in texts]


def pieces_of_digits(text: str) -> list[str]:
    return [digit if place == 0 else f"##{digit}" for word in text.split() for place, digit in enumerate(word)]


def test_a_tokenizer_can_be_sent_to_another_process(small):
    small.encode("unwanted")
    copy = pickle.loads(pickle.dumps(small))
    assert copy.tokenize("UNwanted") == ["un", "##want", "##ed"] and copy.vocabulary == small.vocabulary


def test_lines_keep_their_places():
    tokenizer = WordPieceTokenizer(Vocabulary((*SPECIAL, "a", "b", ",")))
    lines = ["", "a", "a\nb", "", "\r\t \u2028\u0085", "b,", "a\u2028b", ""]
    assert encoded_lines(tokenizer, lines) == [[], [5], [5, 6], [], [], [6, 7], [5, 6], []]
    assert encoded_lines(tokenizer, []) == []


def test_the_last_of_duplicate_tokens_counts():
    assert WordPieceTokenizer(Vocabulary((*SPECIAL, "a", "a"))).encode("a") == [6]


def test_a_full_table_is_emptied_and_results_stay(monkeypatch):
    monkeypatch.setattr("bertline.tokenizer.wordpiece.MAX_KNOWN_WORDS", 3)
    monkeypatch.setattr("bertline.tokenizer.wordpiece.BLOCK_CHARACTERS", 8)
    vocabulary = Vocabulary((*SPECIAL, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh")))
    tokenizer = WordPieceTokenizer(vocabulary)
    lines = ["ab cd ef gh", "ab ba", "cd dc gh", "abcdefgh" * 4, "ab"] * 3
    assert encoded_lines(tokenizer, lines) == [reference_ids(line, vocabulary, True) for line in lines]


def test_a_table_of_few_words_gives_the_exact_ids(monkeypatch):
    monkeypatch.setattr("bertline.tokenizer.wordpiece.MAX_KNOWN_WORDS", 2)
    vocabulary = Vocabulary((*SPECIAL, *"abé中.", *(f"##{letter}" for letter in "abé")))
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=False)
    words = st.sampled_from(["a", "ab", "ba.", "中", "é" * 9, "ab" * 100, "b" * 201, "é" * 401, "c", "\n", ""])

    @given(st.lists(st.lists(words, max_size=8).map(" ".join), max_size=6))
    def check(lines: list[str]) -> None:
        assert encoded_lines(tokenizer, lines) == [reference_ids(line, vocabulary, False) for line in lines]

    check()


def test_many_words_keep_their_ids():
    words = [
        f"{a}{b}{c}{d}" for a in "abcdefghij" for b in "klmnopqrst" for c in "abcdefghij" for d in "uvwxyz0123456789"
    ]
    words += [word * 5 for word in words]  # 20 bytes
    words += [word * 2 for word in words[-4000:]]  # 40 bytes
    vocabulary = Vocabulary((*SPECIAL, *words))
    tokenizer = WordPieceTokenizer(vocabulary)
    for text in (" ".join(words), " ".join(reversed(words))):
        assert tokenizer.encode(text) == [vocabulary.ids[word] for word in text.split()]


@pytest.mark.parametrize("every", [32, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_every_code_point_alone_and_inside_a_word(do_lower_case, every):
    """All of them, or one stretch of 64 in `every`."""
    for plane in range(17):
        first = plane << 16
        # From plane 3 on long ranges are alike (ideographs, unassigned, private): their beginnings and samples.
        samples = {*range(first, first + 1024, 64), *range(first, first + (1 << 16), 64 if plane < 3 else 1024)}
        starts = sorted(samples)[::every]
        lines = [" ".join(f"{chr(code)} a{chr(code)}b" for code in range(start, start + 64)) for start in starts]
        words = [basic_tokens(line, do_lower_case) for line in lines]
        letters = sorted({letter for line in words for word in line for letter in word})
        vocabulary = Vocabulary((*SPECIAL, *letters, *(f"##{letter}" for letter in letters)))
        expected = [
            [
                vocabulary.ids[letter if place == 0 else f"##{letter}"]
                for word in line
                for place, letter in enumerate(word)
            ]
            for line in words
        ]
        assert encoded_lines(WordPieceTokenizer(vocabulary, do_lower_case), lines) == expected, f"plane {plane}"


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_fast_ids_are_the_exact_ones(do_lower_case):
    letters = "abcé中가Σσς.'"
    pieces = [a + b for a in letters for b in ("", *letters)]
    vocabulary = Vocabulary(
        (*SPECIAL, *pieces[::2], *(f"##{piece}" for piece in pieces[::3]), "abcabcabcabcabcabcabcabcabc")
    )
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case)
    words = st.text(st.sampled_from(letters + "AÉ \u0301\u2028\0"), max_size=60)

    @given(
        st.lists(words | st.text(max_size=30) | st.sampled_from(["abc" * 9, "abc" * 66 + "ab", "a" * 201]), max_size=8)
    )
    def check(lines: list[str]) -> None:
        assert encoded_lines(tokenizer, lines) == [reference_ids(line, vocabulary, do_lower_case) for line in lines]

    check()


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_fast_ids_are_the_exact_ones_for_any_unicode(do_lower_case):
    lengths = st.sampled_from([1, 2, 7, 8, 9, 16, 17, 24, 25, 199, 200, 201, 400])
    stretched = st.builds(str.__mul__, st.characters(), lengths)
    texts = st.lists(st.text(st.characters(), max_size=12) | stretched, max_size=6).map(" ".join)

    @given(st.lists(texts, max_size=4))
    def check(lines: list[str]) -> None:
        letters = sorted({letter for line in lines for word in basic_tokens(line, do_lower_case) for letter in word})
        known = letters[: len(letters) - len(letters) // 4]  # the others make their words [UNK]
        vocabulary = Vocabulary((*SPECIAL, *known, *(f"##{letter}" for letter in known)))
        tokenizer = WordPieceTokenizer(vocabulary, do_lower_case)
        expected = [reference_ids(line, vocabulary, do_lower_case) for line in lines]
        assert encoded_lines(tokenizer, lines) == expected
        assert encoded_lines(tokenizer, lines) == expected  # now that all words are known

    check()


def test_a_line_of_five_megabytes():
    vocabulary = Vocabulary((*SPECIAL, "a", "##a", "b", ".", "σ", "ς"))
    text = ("aa b. " * 1000 + "aΣ Σ ") * 850
    ids = WordPieceTokenizer(vocabulary).encode_lines([text])[0]
    assert len(text) > 5_000_000 and len(ids) == 4002 * 850
    assert ids[-6:].tolist() == [5, 6, 7, 8, 1, 9]


def test_a_vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*SPECIAL, "a ", "\u2028", "b\r", "a"]).encode() + b"\n")
    vocabulary = load_vocabulary(path)
    assert vocabulary.tokens == (*SPECIAL, "a", "", "b", "a")
    assert vocabulary.ids["a"] == 8 and vocabulary.ids["b"] == 7
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )


def test_unusable_vocabularies_are_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt: no such vocabulary"):
        load_vocabulary(path)
    for content, message in (
        (b"", "vocabulary is empty"),
        (b"\n\n", "vocabulary is empty"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n", r"lacks \[MASK\]"),
        (b"[PAD]\n\xff\n", "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_vocabulary(path)
