"""Packing documents into pairs of spans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertline.components.hashing import below, document_key, draw, heads, unit
from bertline.components.instances import Instances, TokenizedDocuments, cut_long_sentences, pack, tokenize_documents
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d")))


def documents_of(lengths: list[list[int]]) -> TokenizedDocuments:
    """Documents with sentences of these lengths; token i of the corpus has id i."""
    sentences = [length for document in lengths for length in document]
    return TokenizedDocuments(
        np.arange(sum(sentences)),
        np.concatenate([[0], np.cumsum(sentences, dtype=np.int64)]),
        np.concatenate([[0], np.cumsum([len(document) for document in lengths], dtype=np.int64)]),
        np.array([document_key(f"text:{number}") for number in range(len(lengths))], np.uint64),
    )


def packed(documents: TokenizedDocuments, seed=1, dupe_factor=1, max_seq_length=32, short_seq_prob=0.1) -> Instances:
    return pack(
        documents, seed=seed, dupe_factor=dupe_factor, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob
    )


def document_of(documents: TokenizedDocuments, tokens: np.ndarray) -> np.ndarray:
    starts = documents.sentence_offsets[documents.document_offsets]
    return np.searchsorted(starts, tokens, side="right") - 1


def some_documents(count: int, seed: int = 0) -> TokenizedDocuments:
    random = np.random.default_rng(seed)
    return documents_of([random.integers(1, 12, random.integers(1, 20)).tolist() for _ in range(count)])


corpora = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=6)


@given(corpora, st.integers(5, 40), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_every_span_fits_and_lies_in_one_document(lengths, max_seq_length, seed):
    documents = documents_of(lengths)
    instances = packed(documents, seed, dupe_factor=2, max_seq_length=max_seq_length)
    assert (instances.lengths_a >= 1).all() and (instances.lengths_b >= 1).all()
    assert (instances.lengths_a + instances.lengths_b <= max_seq_length - 3).all()
    first_a, first_b = (document_of(documents, starts) for starts in (instances.starts_a, instances.starts_b))
    assert (document_of(documents, instances.starts_a + instances.lengths_a - 1) == first_a).all()
    assert (document_of(documents, instances.starts_b + instances.lengths_b - 1) == first_b).all()
    assert ((first_a != first_b) == instances.is_random_next).all()


def test_true_pairs_follow_one_another_where_nothing_is_cut():
    instances = packed(some_documents(50), max_seq_length=1000)
    true = instances.take(~instances.is_random_next)
    assert (true.starts_b == true.starts_a + true.lengths_a).all()


def test_half_of_the_pairs_are_random():
    for documents in (some_documents(300), documents_of([[7]] * 2000)):
        instances = packed(documents, dupe_factor=20)
        deviation = abs(instances.is_random_next.mean() - 0.5) * 2 * np.sqrt(len(instances))
        assert deviation < 5


def test_one_document_has_no_random_pairs():
    instances = packed(documents_of([[5, 3, 1, 8, 2] * 20]), dupe_factor=3)
    assert len(instances) > 10 and not instances.is_random_next.any()


def test_no_token_is_lost_where_nothing_is_truncated():
    documents = some_documents(40)
    instances = packed(documents, max_seq_length=100_000, short_seq_prob=0.0)
    covered = np.zeros(len(documents.ids), bool)
    for start, length in zip(instances.starts_a, instances.lengths_a):
        covered[start : start + length] = True
    true = instances.take(~instances.is_random_next)
    for start, length in zip(true.starts_b, true.lengths_b):
        covered[start : start + length] = True
    assert covered.all()


def test_documents_of_one_token():
    alone = packed(documents_of([[1]]))
    assert len(alone) == 0
    two = packed(documents_of([[1], [1]]), dupe_factor=3)
    assert len(two) == 6 and two.is_random_next.all()  # nothing can follow the only token


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
    true = instances.take(~instances.is_random_next & (instances.starts_a % 120 < 60))
    assert len(true) > 1000 and (true.lengths_a == 16).all() and (true.lengths_b == 16).all()
    from_front = (true.starts_a % 60).mean()  # of 44 tokens, binomial with a half
    assert abs(from_front - 22) < 5 * np.sqrt(11 / len(true))


def test_instances_depend_on_seed_and_document_but_not_on_the_number_of_passes():
    documents = some_documents(30)
    once, thrice, other = packed(documents), packed(documents, dupe_factor=3), packed(documents, seed=2)
    assert set(once.keys.tolist()) < set(thrice.keys.tolist())
    assert not set(once.keys.tolist()) & set(other.keys.tolist())
    assert len(set(thrice.keys.tolist())) == len(thrice)


def test_long_sentences_are_cut_between_words():
    continues_word = np.array([False] * 7 + [True, True])
    documents = tokenize_documents([(1, ["a b", "acd b acd bd a a"]), (2, ["a"])], TOKENIZER)
    cut = cut_long_sentences(documents, 7, continues_word)
    sentences = [cut.ids[start:end].tolist() for start, end in zip(cut.sentence_offsets, cut.sentence_offsets[1:])]
    assert sentences == [[5, 6], [5, 7, 8, 6], [5, 7, 8], [6, 8, 5, 5], [5]]
    assert cut.document_offsets.tolist() == [0, 4, 5]


@given(corpora, st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_cutting_moves_no_token(lengths, room):
    documents = documents_of(lengths)
    cut = cut_long_sentences(documents, room, np.zeros(len(documents.ids), bool))
    assert np.diff(cut.sentence_offsets).max() <= room
    assert (np.diff(cut.sentence_offsets) > (room + 1) // 2).sum() == (
        (np.diff(documents.sentence_offsets) > (room + 1) // 2) & (np.diff(documents.sentence_offsets) <= room)
    ).sum()
    assert set(documents.sentence_offsets) <= set(cut.sentence_offsets)
    tokens_before = documents.sentence_offsets[documents.document_offsets]
    assert (cut.sentence_offsets[cut.document_offsets] == tokens_before).all()


def test_empty_sentences_and_documents_are_left_out():
    documents = tokenize_documents([(7, ["", "a b", "\u00ad"]), (8, ["", ""]), (9, ["b"])], TOKENIZER)
    assert documents.ids.dtype == np.uint16
    assert documents.ids.tolist() == [5, 6, 6]
    assert documents.sentence_offsets.tolist() == [0, 2, 3]
    assert documents.document_offsets.tolist() == [0, 1, 2]
    assert documents.keys.tolist() == [7, 9]


def test_nothing_gives_nothing():
    empty = tokenize_documents([], TOKENIZER)
    assert len(packed(empty)) == 0
    assert len(cut_long_sentences(empty, 5, np.zeros(9, bool)).ids) == 0


def test_ids_of_a_large_vocabulary_are_kept_whole():
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(70_000)))
    documents = tokenize_documents([(1, ["w69999"])], WordPieceTokenizer(Vocabulary(tokens)))
    assert documents.ids.dtype == np.int32 and documents.ids.tolist() == [70_004]


def test_hashes_are_stable_and_even():
    # These numbers make the records: a change of theirs changes every artifact.
    assert document_key("wikipedia:enwiki:12") == 8525535099752476902
    assert draw(np.array([1, 2], np.uint64), 3, np.array([4, 5])).tolist() == [
        15537199073334263167,
        16675047787367031382,
    ]
    keys = np.arange(100_000, dtype=np.uint64)
    assert abs(unit(draw(keys, 1)).mean() - 0.5) < 5 * np.sqrt(1 / 12 / 100_000)
    counts = np.bincount(below(draw(keys, 2), 7), minlength=7)
    assert len(counts) == 7 and abs(counts - 100_000 / 7).max() < 5 * np.sqrt(100_000 / 7)
    tosses = np.array([0, 1, 63, 64, 65, 1000] * 3000)
    tossed = heads(draw(np.arange(len(tosses), dtype=np.uint64), 3), tosses).reshape(3000, 6)
    assert (tossed <= tosses[:6]).all()
    assert (abs(tossed.mean(axis=0) - tosses[:6] / 2) <= 5 * np.sqrt(tosses[:6] / 4 / 3000)).all()


@pytest.mark.parametrize("bound", [1, 2, 3, 1 << 20])
def test_below_stays_below(bound):
    assert below(np.array([0, (1 << 64) - 1], np.uint64), bound).tolist() == [0, bound - 1]
