"""Texts and pairs as the model's inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.tokenizer.encode import encode_pairs, truncated_lengths
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh")))


def test_single_texts():
    arrays = encode_pairs(TOKENIZER, ["a b", "", "a b c d e f"], None, 6)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int32)}
    assert arrays["input_ids"].tolist() == [[2, 5, 6, 3, 0, 0], [2, 3, 0, 0, 0, 0], [2, 5, 6, 7, 8, 3]]
    assert arrays["input_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert not arrays["segment_ids"].any()


def test_pairs():
    arrays = encode_pairs(TOKENIZER, ["a b", "a b c d", "a"], ["c", "e f g h", ""], 8)
    assert arrays["input_ids"].tolist() == [
        [2, 5, 6, 3, 7, 3, 0, 0],
        [2, 5, 6, 7, 3, 9, 10, 3],
        [2, 5, 3, 3, 0, 0, 0, 0],
    ]
    assert arrays["input_mask"].sum(axis=1).tolist() == [6, 8, 4]
    assert arrays["segment_ids"].tolist() == [
        [0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 0, 0, 0, 0],
    ]


def test_no_texts_and_no_tokens():
    assert encode_pairs(TOKENIZER, [], None, 8)["input_ids"].shape == (0, 8)
    assert encode_pairs(TOKENIZER, [""], [""], 8)["input_ids"].tolist() == [[2, 3, 3, 0, 0, 0, 0, 0]]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 30))
def test_truncation_takes_single_tokens_from_the_longer_text(length_a, length_b, room):
    left_a, left_b = length_a, length_b
    while left_a + left_b > room:
        if left_a > left_b:
            left_a -= 1
        else:
            left_b -= 1
    kept_a, kept_b = truncated_lengths(np.array([length_a]), np.array([length_b]), room)
    assert (kept_a[0], kept_b[0]) == (left_a, left_b)


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="max_seq_length is 4"):
        encode_pairs(TOKENIZER, ["a"], ["b"], 4)
    with pytest.raises(ValueError, match="2 first texts, but 1 second"):
        encode_pairs(TOKENIZER, ["a", "b"], ["c"], 8)
