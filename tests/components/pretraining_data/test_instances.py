"""Packing documents into pairs of spans."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.components.pretraining_data.files import document_key
from bertline.components.pretraining_data.instances import Instances, TokenizedDocuments, pack, packing_rules
from bertline.tokenizer.encode import NO_SECOND_SEGMENT


def documents_of(lengths: list[list[int]]) -> TokenizedDocuments:
    """Documents with sentences of these lengths; token i of the corpus has id i."""
    sentences = [length for document in lengths for length in document]
    return TokenizedDocuments(
        np.arange(sum(sentences), dtype=np.int32),
        np.zeros(sum(sentences), bool),
        np.concatenate([[0], np.cumsum(sentences, dtype=np.int64)]),
        np.concatenate([[0], np.cumsum([len(document) for document in lengths], dtype=np.int64)]),
        np.array([document_key(f"text:{number}") for number in range(len(lengths))], np.uint64),
    )


def packed(documents: TokenizedDocuments, pairs="next_sentence", **changes) -> Instances:
    rules = {"seed": 1, "dupe_factor": 1, "max_seq_length": 32} | changes
    return pack(documents, packing_rules(pairs, **rules))


def where(instances: Instances, flags: np.ndarray) -> Instances:
    return instances.take(np.flatnonzero(flags))


def document_of(documents: TokenizedDocuments, tokens: np.ndarray) -> np.ndarray:
    starts = documents.sentence_offsets[documents.document_offsets]
    return np.searchsorted(starts, tokens, side="right") - 1


def some_documents(count: int, seed: int = 0) -> TokenizedDocuments:
    random = np.random.default_rng(seed)
    return documents_of([random.integers(1, 12, random.integers(1, 20)).tolist() for _ in range(count)])


corpora = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=6)


@given(corpora, st.integers(5, 40), st.integers(0, 3))
def test_every_span_fits_and_lies_in_one_document(lengths, max_seq_length, seed):
    documents = documents_of(lengths)
    instances = packed(documents, seed=seed, dupe_factor=2, max_seq_length=max_seq_length)
    assert (instances.lengths_a >= 1).all() and (instances.lengths_b >= 1).all()
    assert (instances.lengths_a + instances.lengths_b <= max_seq_length - 3).all()
    first_a, first_b = (document_of(documents, starts) for starts in (instances.starts_a, instances.starts_b))
    assert (document_of(documents, instances.starts_a + instances.lengths_a - 1) == first_a).all()
    assert (document_of(documents, instances.starts_b + instances.lengths_b - 1) == first_b).all()
    assert ((first_a != first_b) == (instances.labels == 1)).all()


def test_true_pairs_follow_one_another_where_nothing_is_cut():
    instances = packed(some_documents(50), max_seq_length=1000)
    true = where(instances, instances.labels == 0)
    assert (true.starts_b == true.starts_a + true.lengths_a).all()


def test_half_of_the_pairs_are_random():
    for documents in (some_documents(300), documents_of([[7]] * 2000)):
        instances = packed(documents, dupe_factor=20)
        deviation = abs((instances.labels == 1).mean() - 0.5) * 2 * np.sqrt(len(instances.keys))
        assert deviation < 5


def test_one_document_has_no_random_pairs():
    instances = packed(documents_of([[5, 3, 1, 8, 2] * 20]), dupe_factor=3)
    assert len(instances.keys) > 10 and not instances.labels.any()


def test_no_token_is_lost_where_nothing_is_truncated():
    random = np.random.default_rng(0)
    documents = documents_of([random.integers(2, 12, random.integers(1, 20)).tolist() for _ in range(40)])
    instances = packed(documents, max_seq_length=100_000, short_seq_prob=0.0)
    covered = np.zeros(len(documents.ids), bool)
    for start, length in zip(instances.starts_a, instances.lengths_a):
        covered[start : start + length] = True
    true = where(instances, instances.labels == 0)
    for start, length in zip(true.starts_b, true.lengths_b):
        covered[start : start + length] = True
    assert covered.all()


def test_a_last_token_alone_makes_no_pair():
    assert len(packed(documents_of([[1]])).keys) == 0
    assert len(packed(documents_of([[1], [1]]), dupe_factor=3).keys) == 0
    pairs = packed(documents_of([[40, 1], [3]]), short_seq_prob=0.0, dupe_factor=50)
    assert 40 not in pairs.starts_a.tolist()


def test_short_targets_occur_once_in_ten_passes():
    documents = documents_of([[1] * 400] * 200)
    instances = packed(documents, dupe_factor=5, max_seq_length=67, short_seq_prob=0.5)
    full = (instances.lengths_a + instances.lengths_b == 64).mean()
    assert 0.0 < full < 1.0
    always_full = packed(documents, max_seq_length=67, short_seq_prob=0.0)
    assert np.median(always_full.lengths_a + always_full.lengths_b) == 64


def test_truncation_takes_from_both_ends_evenly():
    documents = documents_of([[60, 60]] * 4000)
    instances = packed(documents, max_seq_length=35, short_seq_prob=0.0)
    # A in a document's first sentence, B in its second; a second sentence alone is cut in two instead.
    true = where(instances, (instances.labels == 0) & (instances.starts_a % 120 < 60))
    assert len(true.keys) > 1000 and (true.lengths_a == 16).all() and (true.lengths_b == 16).all()
    from_front = (true.starts_a % 60).mean()  # of 44 tokens, binomial with a half
    assert abs(from_front - 22) < 5 * np.sqrt(11 / len(true.keys))


def test_instances_depend_on_seed_and_document_but_not_on_the_number_of_passes():
    documents = some_documents(30)
    once, thrice, other = packed(documents), packed(documents, dupe_factor=3), packed(documents, seed=2)
    assert set(once.keys.tolist()) < set(thrice.keys.tolist())
    assert not set(once.keys.tolist()) & set(other.keys.tolist())
    assert len(set(thrice.keys.tolist())) == len(thrice.keys)


def test_the_share_of_random_pairs_is_the_one_asked_for():
    """Also where many documents end with a single token, after which nothing can come."""
    for asked in (0.0, 0.2, 1.0):
        instances = packed(some_documents(300), dupe_factor=20, random_next_prob=asked)
        deviation = abs(instances.labels.mean() - asked)
        assert deviation <= 5 * np.sqrt(asked * (1 - asked) / len(instances.keys))


def test_the_originals_semantics_have_its_defects():
    alone = packed(documents_of([[5, 3, 1, 8, 2] * 20]), dupe_factor=5, google=True)
    assert 0.3 < alone.labels.mean() < 0.8  # one document, and text of its own is labelled random
    single = packed(documents_of([[7]] * 200), dupe_factor=5, google=True)
    assert single.labels.all()  # nothing follows a lone sentence
    many = packed(some_documents(300), dupe_factor=20, google=True)
    assert many.labels.mean() > 0.53


def test_sentence_order_pairs_are_neighbours_and_half_of_them_swapped():
    documents = some_documents(300)
    instances = packed(documents, "sentence_order", dupe_factor=10, max_seq_length=1000)
    in_order, swapped = where(instances, instances.labels == 0), where(instances, instances.labels == 1)
    assert (in_order.starts_b == in_order.starts_a + in_order.lengths_a).all()
    assert (swapped.starts_a == swapped.starts_b + swapped.lengths_b).all()
    # Documents of one token make no pair.
    assert abs(instances.labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(instances.keys))


def test_full_sentences_fill_one_segment_and_lose_nothing():
    documents = documents_of([[10, 12, 9, 20, 5], [30], [3, 3]])
    instances = packed(documents, "none", short_seq_prob=0.0)  # room for 30 tokens
    assert list(zip(instances.starts_a.tolist(), instances.lengths_a.tolist())) == [
        (0, 22), (22, 29), (51, 5), (56, 30), (86, 6),
    ]  # fmt: skip
    assert (instances.lengths_b == NO_SECOND_SEGMENT).all() and not instances.labels.any()


def test_a_fiftieth_of_the_segments_is_cut_at_random():
    documents = documents_of([[10] * 50] * 300)
    whole, cut = packed(documents, dupe_factor=3), packed(documents, dupe_factor=3, truncate_prob=0.02)
    assert (whole.keys == cut.keys).all() and (whole.labels == cut.labels).all()
    for starts, lengths, cut_starts, cut_lengths in (
        (whole.starts_a, whole.lengths_a, cut.starts_a, cut.lengths_a),
        (whole.starts_b, whole.lengths_b, cut.starts_b, cut.lengths_b),
    ):
        shorter = cut_lengths < lengths
        assert abs(shorter.mean() - 0.02) < 5 * np.sqrt(0.02 * 0.98 / len(shorter))
        assert (cut_lengths >= 1).all() and (cut_starts >= starts).all()
        assert (cut_starts + cut_lengths <= starts + lengths).all()
        fronts = cut_starts[shorter] > starts[shorter]
        assert abs(fronts.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(fronts))


def test_a_sentence_of_twelve_thousand_words_and_one_token():
    instances = packed(documents_of([[12_000], [1]]), max_seq_length=128)
    assert (instances.lengths_a + instances.lengths_b).tolist() == [125]


def test_nothing_gives_nothing():
    assert len(packed(documents_of([])).keys) == 0


def test_other_pairs_are_refused():
    with pytest.raises(ValueError, match='pairs is "nsp"; it must be one of next_sentence, sentence_order, none'):
        packed(documents_of([[1]]), "nsp")
