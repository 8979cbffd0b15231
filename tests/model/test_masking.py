"""Masked rows: which words are predicted and what stands in their place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertline.components.hashing import draw
from bertline.components.instances import Instances
from bertline.components.masking import mask_rules, masked_rows
from bertline.tokenizer.wordpiece import Vocabulary

# Ids: 5-8 reserved, 9-28 whole words, 29-48 continuations.
VOCABULARY = Vocabulary(
    (
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "", "[unused2]"),
        *(f"w{number}" for number in range(20)),
        *(f"##c{number}" for number in range(20)),
    )
)
WORD, CONTINUATION = 9, 29


def rules(width=32, predictions=6, prob=0.15, whole_words=True):
    return mask_rules(
        VOCABULARY,
        max_seq_length=width,
        max_predictions_per_seq=predictions,
        masked_lm_prob=prob,
        do_whole_word_mask=whole_words,
    )


def some_instances(count, room=29, seed=0, continuation=0.4):
    """Random ids, and spans of them that fill at most `room`."""
    random = np.random.default_rng(seed)
    ids = random.integers(WORD, CONTINUATION, 5000) + np.where(random.random(5000) < continuation, 20, 0)
    lengths_a = random.integers(1, room, count)
    lengths_b = 1 + (random.random(count) * (room - lengths_a)).astype(np.int64)
    starts_a, starts_b = random.integers(0, 4000, (2, count))
    keys = draw(np.arange(count, dtype=np.uint64), seed)
    return ids, Instances(starts_a, lengths_a, starts_b, lengths_b, random.random(count) < 0.5, keys)


def originals(rows):
    """The input ids as they were before masking, and which places are predicted."""
    ids, chosen = rows["input_ids"].copy(), np.zeros(rows["input_ids"].shape, bool)
    row, rank = np.nonzero(rows["masked_lm_weights"])
    column = rows["masked_lm_positions"][row, rank]
    ids[row, column] = rows["masked_lm_ids"][row, rank]
    chosen[row, column] = True
    return ids, chosen


def test_features_and_their_types():
    ids, instances = some_instances(3)
    rows = masked_rows(ids, instances, rules())
    assert {name: (array.shape, array.dtype.name) for name, array in rows.items()} == {
        "input_ids": ((3, 32), "int32"),
        "input_mask": ((3, 32), "int32"),
        "segment_ids": ((3, 32), "int32"),
        "masked_lm_positions": ((3, 6), "int32"),
        "masked_lm_ids": ((3, 6), "int32"),
        "masked_lm_weights": ((3, 6), "float32"),
        "next_sentence_labels": ((3, 1), "int32"),
    }


def test_one_row_by_hand():
    ids = np.array([9, 10, 30, 11])
    one = Instances(*(np.array([value]) for value in (0, 1, 1, 3, True)), np.array([5], np.uint64))
    rows = masked_rows(ids, one, rules(width=10, predictions=3, prob=0.4))
    before, _ = originals(rows)
    assert before.tolist() == [[2, 9, 3, 10, 30, 11, 3, 0, 0, 0]]
    assert rows["input_mask"].tolist() == [[1] * 7 + [0] * 3]
    assert rows["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0, 0]]
    assert rows["masked_lm_weights"].sum() == 3  # round(7 x 0.4)
    assert rows["next_sentence_labels"].tolist() == [[1]]


@given(st.integers(0, 100), st.booleans(), st.floats(0.0, 1.0), st.integers(1, 12), st.floats(0.01, 1.0))
@settings(max_examples=100, deadline=None)
def test_predictions_are_in_order_and_within_the_budget(seed, whole_words, continuation, predictions, prob):
    ids, instances = some_instances(40, seed=seed, continuation=continuation)
    rows = masked_rows(ids, instances, rules(predictions=predictions, prob=prob, whole_words=whole_words))
    before, chosen = originals(rows)
    weights, positions = rows["masked_lm_weights"], rows["masked_lm_positions"]
    counts = weights.sum(axis=1).astype(int)
    lengths = rows["input_mask"].sum(axis=1)
    budgets = [min(predictions, max(1, round(length * prob))) for length in lengths.tolist()]
    assert (counts <= budgets).all()
    if not whole_words:
        assert (counts == np.minimum(budgets, lengths - 3)).all()
    assert ((np.diff(positions, axis=1) > 0) | (weights[:, 1:] == 0)).all()
    assert (positions[weights == 0] == 0).all() and (rows["masked_lm_ids"][weights == 0] == 0).all()
    assert not chosen[(before == 2) | (before == 3) | (before == 0)].any()
    for row, (start_a, length_a) in enumerate(zip(instances.starts_a, instances.lengths_a)):
        assert (before[row, 1 : length_a + 1] == ids[start_a : start_a + length_a]).all()


def test_masks_cover_whole_words_and_no_word_crosses_a_separator():
    ids, instances = some_instances(3000)
    rows = masked_rows(ids, instances, rules())
    before, chosen = originals(rows)
    is_text = (before != 0) & (before != 2) & (before != 3)
    continues = is_text[:, 1:] & is_text[:, :-1] & (before[:, 1:] >= CONTINUATION)
    assert (chosen[:, 1:] == chosen[:, :-1])[continues].all()
    row = np.arange(len(before))
    last_of_a, first_of_b = instances.lengths_a, instances.lengths_a + 2
    mid_word = before[row, first_of_b] >= CONTINUATION
    apart = chosen[row, last_of_a] != chosen[row, first_of_b]
    assert (mid_word & apart).sum() > 50


def test_the_budget_is_met_where_a_fitting_word_is_left():
    ids, instances = some_instances(2000)
    table = rules()
    rows = masked_rows(ids, instances, table)
    before, chosen = originals(rows)
    left = table.budgets[rows["input_mask"].sum(axis=1)] - chosen.sum(axis=1)
    for row in np.flatnonzero(left):
        unchosen = "".join(
            "x" if c else "|" if b in (0, 2, 3) else "-" if b >= CONTINUATION else "w"
            for b, c in zip(before[row], chosen[row])
        )
        words = [
            len(word) for part in unchosen.replace("x", "|").split("|") for word in part.replace("w", " w").split()
        ]
        assert all(length > left[row] for length in words)


def test_eight_of_ten_are_masked_one_kept_one_random_and_never_by_a_reserved_token():
    ids, instances = some_instances(20_000)
    rows = masked_rows(ids, instances, rules())
    before, chosen = originals(rows)
    shown, label = rows["input_ids"][chosen], before[chosen]
    replaced = shown[(shown != 4) & (shown != label)]
    assert set(np.unique(replaced)) == set(range(WORD, len(VOCABULARY)))
    # A random token is the original one in one of 40 cases.
    for share, expected in (
        ((shown == 4).mean(), 0.8),
        ((shown == label).mean(), 0.1 + 0.1 / 40),
        (len(replaced) / len(shown), 0.1 - 0.1 / 40),
    ):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / len(shown))
    assert (rows["input_ids"][~chosen] == before[~chosen]).all()


def test_every_word_is_chosen_equally_often():
    ids, _ = some_instances(1)
    many = Instances(
        np.zeros(20_000, np.int64),
        np.full(20_000, 10),
        np.full(20_000, 100),
        np.full(20_000, 10),
        np.zeros(20_000, bool),
        draw(np.arange(20_000, dtype=np.uint64), 9),
    )
    _, chosen = originals(masked_rows(ids, many, rules(whole_words=False)))
    expected = 3 / 20  # round(23 x 0.15) of 20 tokens
    assert abs(chosen[:, [*range(1, 11), *range(12, 22)]].mean(axis=0) - expected).max() < 5 * np.sqrt(
        expected * (1 - expected) / 20_000
    )


def test_rows_do_not_depend_on_their_block():
    ids, instances = some_instances(50)
    whole = masked_rows(ids, instances, rules())
    for first in range(0, 50, 7):
        block = masked_rows(ids, instances.take(slice(first, first + 7)), rules())
        for name, array in block.items():
            assert (array == whole[name][first : first + 7]).all()


def test_a_vocabulary_of_special_tokens_alone_is_refused():
    with pytest.raises(ValueError, match="special tokens only"):
        mask_rules(
            Vocabulary(VOCABULARY.tokens[:9]),
            max_seq_length=8,
            max_predictions_per_seq=1,
            masked_lm_prob=0.1,
            do_whole_word_mask=True,
        )
