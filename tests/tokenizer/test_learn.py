"""Learning the pieces of a vocabulary."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.learn import learn_pieces
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}  # the example of Sennrich et al. 2016
CHARACTERS = ["##d", "##e", "##i", "##o", "##r", "##s", "##t", "##w", "l", "n", "w"]


def learned(counts: dict[str, int], size: int = 1000, min_count: int = 1, alphabet_size: int = 100) -> list[str]:
    return learn_pieces(counts, size, min_count, alphabet_size)[0]


def test_special_tokens_then_characters_then_merges_by_frequency():
    merges = [
        "##es",
        "##est",
        "##ow",
        "low",
        "##ew",
        "##ewest",
        "newest",
        "##dest",
        "##idest",
        "widest",
        "##er",
        "lower",
    ]
    assert learned(WORDS) == [*SPECIAL_TOKENS, *CHARACTERS, *merges]
    assert learned(WORDS, size=18) == [*SPECIAL_TOKENS, *CHARACTERS, "##es", "##est"]
    assert learned(WORDS, min_count=3)[-1] == "widest"


def test_rare_characters_and_their_words_are_left_out():
    pieces = learned({"ab": 5, "axb": 1, "ba": 3}, alphabet_size=2)
    assert pieces == [*SPECIAL_TOKENS, "##a", "##b", "a", "b", "ab", "ba"]


def test_a_size_below_the_characters_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size is 15, .* already 16; raise vocab_size or lower alphabet_size"):
        learned(WORDS, size=15)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=12))
def test_merging_equals_counting_all_pairs_again(counts):
    words = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in counts}
    expected = [*SPECIAL_TOKENS, *sorted({piece for pieces in words.values() for piece in pieces})]
    while True:
        pairs: dict[tuple[str, str], int] = {}
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] = pairs.get(pair, 0) + counts[word]
        if not pairs:
            break
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = pair[0] + pair[1][2:]
        if merged not in expected:
            expected.append(merged)
        for word, pieces in words.items():
            words[word] = []
            while pieces:
                taken = 2 if tuple(pieces[:2]) == pair else 1
                words[word].append(merged if taken == 2 else pieces[0])
                pieces = pieces[taken:]
    assert learned(counts) == expected


def test_learned_words_are_encoded_without_unknown_parts():
    tokenizer = WordPieceTokenizer(Vocabulary(tuple(learned(WORDS))))
    assert tokenizer.tokenize("lowest newer wider") == ["low", "##est", "n", "##ew", "##er", "w", "##i", "##d", "##er"]


def test_two_processes_learn_the_same():
    program = (
        "from bertline.tokenizer.learn import learn_pieces\n"
        "words = {chr(97 + i % 26) + chr(97 + i % 17) + chr(97 + i % 7) * (i % 3): 1 + i % 5 for i in range(2000)}\n"
        "print(learn_pieces(words, 300, 2, 100))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and b"##" in outputs.pop()
