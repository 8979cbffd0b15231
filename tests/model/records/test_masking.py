"""Masked rows: which words are predicted and what stands in their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.model.records.masking import MaskConfig, dynamic_keys, mask, mask_rules
from bertline.model.records.rows import Spans, assemble, draw, features
from bertline.tokenizer.encode import NO_SECOND_SEGMENT
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


def rules(width=32, predictions=6, prob=0.15, **settings):
    config = MaskConfig(max_predictions_per_seq=predictions, masked_lm_prob=prob, **settings)
    return mask_rules(config, VOCABULARY, width)


def keys_of(count, seed=0):
    return np.array([draw(np.uint64(number), seed) for number in range(count)], np.uint64)


def some_spans(count, room=29, seed=0, continuation=0.4):
    """Random ids, and spans of them that fill at most `room`."""
    random = np.random.default_rng(seed)
    ids = random.integers(WORD, CONTINUATION, 5000) + np.where(random.random(5000) < continuation, 20, 0)
    lengths_a = random.integers(1, room, count)
    lengths_b = 1 + (random.random(count) * (room - lengths_a)).astype(np.int64)
    starts_a, starts_b = random.integers(0, 4000, (2, count))
    return ids.astype(np.uint16), Spans(starts_a, lengths_a, starts_b, lengths_b)


def masked(ids, spans, table, whole_words=True, seed=0, join_segments=False):
    """The features of the masked rows, and the outcomes."""
    labels = np.zeros(len(spans.starts_a), np.uint8)
    continues = (ids >= CONTINUATION) & whole_words
    width = len(table.budgets) - 1
    rows = assemble(ids, continues, spans, labels, width, VOCABULARY, join_segments=join_segments)
    rows, predictions, outcomes = mask(rows, keys_of(len(labels), seed), table)
    return features(rows, predictions), outcomes


def originals(rows):
    """The input ids as they were before masking, and which places are predicted."""
    ids, chosen = rows["input_ids"].copy(), np.zeros(rows["input_ids"].shape, bool)
    row, rank = np.nonzero(rows["masked_lm_weights"])
    column = rows["masked_lm_positions"][row, rank]
    ids[row, column] = rows["masked_lm_ids"][row, rank]
    chosen[row, column] = True
    return ids, chosen


def test_one_row_by_hand():
    ids = np.array([9, 10, 30, 11], np.uint16)
    spans = Spans(*(np.array([value]) for value in (0, 1, 1, 3)))
    rows, outcomes = masked(ids, spans, rules(width=10, predictions=3, prob=0.4), whole_words=False)
    before, _ = originals(rows)
    assert before.tolist() == [[2, 9, 3, 10, 30, 11, 3, 0, 0, 0]]
    assert rows["input_mask"].tolist() == [[1] * 7 + [0] * 3]
    assert rows["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0, 0]]
    assert rows["masked_lm_weights"].sum() == outcomes.sum() == 3  # round(7 x 0.4)


@given(st.integers(0, 100), st.booleans(), st.floats(0.0, 1.0), st.integers(1, 12), st.floats(0.01, 1.0))
def test_predictions_are_in_order_and_within_the_budget(seed, whole_words, continuation, predictions, prob):
    ids, spans = some_spans(40, seed=seed, continuation=continuation)
    rows, _ = masked(ids, spans, rules(predictions=predictions, prob=prob), whole_words)
    before, chosen = originals(rows)
    weights, positions = rows["masked_lm_weights"], rows["masked_lm_positions"]
    counts = weights.sum(axis=1).astype(int)
    lengths = rows["input_mask"].sum(axis=1)
    budgets = [min(predictions, max(1, round(length * prob))) for length in lengths.tolist()]
    assert (counts <= predictions).all()
    if not whole_words:
        assert (counts == np.minimum(budgets, lengths - 3)).all()
    assert ((np.diff(positions, axis=1) > 0) | (weights[:, 1:] == 0)).all()
    assert (positions[weights == 0] == 0).all() and (rows["masked_lm_ids"][weights == 0] == 0).all()
    assert not chosen[(before == 2) | (before == 3) | (before == 0)].any()
    for row, (start_a, length_a) in enumerate(zip(spans.starts_a, spans.lengths_a)):
        assert (before[row, 1 : length_a + 1] == ids[start_a : start_a + length_a]).all()


def words_of(before, chosen):
    """[(row, first column, last column + 1, chosen flags)] of all words; a segment's first piece opens one."""
    found = []
    for row in range(len(before)):
        start = None
        for column in range(before.shape[1] + 1):
            ends = column == before.shape[1] or before[row, column] in (0, 2, 3)
            opens = not ends and (before[row, column] < CONTINUATION or start is None)
            if start is not None and (ends or opens):
                found.append((row, start, column, chosen[row, start:column]))
                start = None
            if opens:
                start = column
    return found


def test_masks_cover_whole_words_and_no_word_crosses_a_separator():
    ids, spans = some_spans(3000)
    rows, _ = masked(ids, spans, rules())
    before, chosen = originals(rows)
    assert all(flags.all() or not flags.any() for *_, flags in words_of(before, chosen))
    row, last_of_a, first_of_b = np.arange(len(before)), spans.lengths_a, spans.lengths_a + 2
    mid_word = before[row, first_of_b] >= CONTINUATION
    assert (mid_word & (chosen[row, last_of_a] != chosen[row, first_of_b])).sum() > 50


def test_the_original_joins_words_across_the_separator():
    ids, spans = some_spans(3000)
    rows, _ = masked(ids, spans, rules(google=True), join_segments=True)
    before, chosen = originals(rows)
    row, last_of_a, first_of_b = np.arange(len(before)), spans.lengths_a, spans.lengths_a + 2
    mid_word = before[row, first_of_b] >= CONTINUATION
    assert mid_word.sum() > 500
    assert (chosen[row, last_of_a] == chosen[row, first_of_b])[mid_word].all()
    assert not chosen[before == 3].any()


def test_the_budget_is_met():
    """Exactly where a word that fits is left, else by one word more; the original falls short of it."""
    ids, spans = some_spans(2000, continuation=0.7)
    table = rules(predictions=12)
    rows, _ = masked(ids, spans, table)
    before, chosen = originals(rows)
    budgets = table.budgets[rows["input_mask"].sum(axis=1)]
    short, over = chosen.sum(axis=1) < budgets, chosen.sum(axis=1) > budgets
    words = words_of(before, chosen)
    for row in np.flatnonzero(short):
        room = 12 - chosen[row].sum()
        assert all(end - start > room for number, start, end, flags in words if number == row and not flags.any())
    for row in np.flatnonzero(over):
        largest = max(end - start for number, start, end, flags in words if number == row and flags.any())
        assert chosen[row].sum() - largest < budgets[row]
    assert over.sum() > 100
    google, _ = masked(ids, spans, rules(predictions=12, google=True))
    counts = google["masked_lm_weights"].sum(axis=1)
    assert (counts <= budgets).all() and (counts < budgets).sum() > 100


def test_eight_of_ten_are_masked_one_kept_one_random_and_never_by_a_reserved_token():
    ids, spans = some_spans(20_000)
    rows, outcomes = masked(ids, spans, rules())
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
    assert outcomes.tolist() == [(shown == 4).sum(), (shown == label).sum(), len(replaced)]
    assert (rows["input_ids"][~chosen] == before[~chosen]).all()
    google, _ = masked(ids, spans, rules(google=True))
    before, chosen = originals(google)
    assert set(range(WORD)) < set(np.unique(google["input_ids"][chosen]))


@pytest.mark.parametrize(("per", "max_ngram"), [("word", 1), ("span", 1), ("span", 3)])
def test_one_outcome_for_a_word_or_a_span(per, max_ngram):
    ids, spans = some_spans(4000)
    rows, _ = masked(ids, spans, rules(predictions=10, prob=0.3, replace_per=per, max_ngram=max_ngram))
    before, chosen = originals(rows)
    is_mask = rows["input_ids"] == 4
    long = [(row, start, end) for row, start, end, flags in words_of(before, chosen) if flags.all() and end - start > 1]
    assert len(long) > 1000
    assert all(is_mask[row, start:end].all() or not is_mask[row, start:end].any() for row, start, end in long)
    pieces, _ = masked(ids, spans, rules(predictions=10, prob=0.3))
    mixed = pieces["input_ids"] == 4
    before, chosen = originals(pieces)
    assert any(
        flags.all() and mixed[row, start:end].any() and not mixed[row, start:end].all()
        for row, start, end, flags in words_of(before, chosen)
    )


def test_spans_of_words_have_albert_and_spanberts_chances():
    for max_ngram, p, chances in ((3, 0.0, np.array([6, 3, 2]) / 11), (2, 0.2, np.array([1, 0.8]) / 1.8)):
        ids, spans = some_spans(20_000, room=125, continuation=0.0)
        spans = spans._replace(lengths_a=np.full(20_000, 100), lengths_b=np.full(20_000, 25))
        # A budget of as many words as the longest span has: the first span is never cut short by it.
        table = rules(width=128, predictions=max_ngram, prob=0.9, max_ngram=max_ngram, span_geometric_p=p)
        _, chosen = originals(masked(ids, spans, table)[0])
        whole = np.array([row.sum() == max_ngram and np.ptp(np.flatnonzero(row)) == max_ngram - 1 for row in chosen])
        # A run of the full length is one span of it, or shorter ones side by side by chance.
        by_chance = 0.02 if max_ngram == 2 else 0.05
        assert chances[-1] - 5 * np.sqrt(0.25 / 20_000) < whole.mean() < chances[-1] + by_chance


def test_a_span_stays_in_its_segment():
    ids, spans = some_spans(2000, continuation=0.0)
    table = rules(predictions=20, prob=0.01, max_ngram=20, span_geometric_p=0.001)._replace(budgets=np.full(33, 20))
    rows, _ = masked(ids, spans, table)
    _, chosen = originals(rows)
    assert chosen.any() and not chosen[rows["input_ids"] == 3].any()


def test_every_word_is_chosen_equally_often():
    ids, _ = some_spans(1)
    spans = Spans(*(np.full(20_000, value) for value in (0, 10, 100, 10)))
    _, chosen = originals(masked(ids, spans, rules(), whole_words=False)[0])
    expected = 3 / 20  # round(23 x 0.15) of 20 tokens
    assert abs(chosen[:, [*range(1, 11), *range(12, 22)]].mean(axis=0) - expected).max() < 5 * np.sqrt(
        expected * (1 - expected) / 20_000
    )


def test_rows_of_one_segment():
    ids, spans = some_spans(500)
    spans = spans._replace(lengths_b=np.full(500, NO_SECOND_SEGMENT))
    rows, _ = masked(ids, spans, rules())
    before, chosen = originals(rows)
    assert (rows["input_mask"].sum(axis=1) == spans.lengths_a + 2).all() and not rows["segment_ids"].any()
    assert ((before == 3).sum(axis=1) == 1).all() and chosen.any(axis=1).all()


def test_masks_depend_on_seed_epoch_and_example_alone():
    keys = dynamic_keys(7, np.array([0, 0, 1, 0]), np.array([3, 4, 3, 3]))
    assert keys[0] == keys[3] and len(set(keys.tolist())) == 3
    assert dynamic_keys(8, np.array([0]), np.array([3]))[0] != keys[0]
    ids, spans = some_spans(50)
    rows = assemble(ids, ids >= CONTINUATION, spans, np.zeros(50, np.uint8), 32, VOCABULARY)
    numbers = np.arange(50)
    whole, _, _ = mask(rows, dynamic_keys(7, numbers * 0, numbers), rules())
    some, _, _ = mask(rows.take(numbers[10:20]), dynamic_keys(7, numbers[10:20] * 0, numbers[10:20]), rules())
    assert (whole.token_ids[10:20] == some.token_ids).all()
    again, _, _ = mask(rows, dynamic_keys(7, numbers * 0 + 1, numbers), rules())
    assert (again.token_ids != whole.token_ids).any(axis=1).mean() > 0.9


def test_the_seed_readmes_example_masks_all_pieces_of_a_word_together():
    """the man jumped up , put his basket on phil ##am ##mon ' s head"""
    text = ["the", "man", "jumped", "up", ",", "put", "his", "basket", "on", "phil", "##am", "##mon", "'", "s", "head"]
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *text))
    ids = np.arange(5, 5 + len(text), dtype=np.uint16)
    continues = np.array([piece.startswith("##") for piece in text])
    spans = Spans(*(np.full(2000, value) for value in (0, len(text), 0, NO_SECOND_SEGMENT)))
    rows = assemble(ids, continues, spans, np.zeros(2000, np.uint8), 20, vocabulary)
    _, predictions, _ = mask(rows, keys_of(2000), mask_rules(MaskConfig(masked_lm_prob=0.3), vocabulary, 20))
    pieces = {text.index(piece) + 1 for piece in ("phil", "##am", "##mon")}
    together = [set(row[:count]) & pieces for row, count in zip(predictions.positions.tolist(), predictions.counts)]
    assert all(found in (set(), pieces) for found in together) and pieces in together


def test_a_vocabulary_of_special_tokens_alone_is_refused():
    with pytest.raises(ValueError, match="special tokens only"):
        mask_rules(MaskConfig(), Vocabulary(VOCABULARY.tokens[:9]), 8)
