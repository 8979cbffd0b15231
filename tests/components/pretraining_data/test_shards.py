"""Documents as flat arrays of ids, and long sentences cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertline.components.pretraining_data.files import document_key
from bertline.components.pretraining_data.instances import TokenizedDocuments
from bertline.components.pretraining_data.shards import cut_long_sentences, tokenize_documents, word_pieces
from bertline.tokenizer.segment import segmenter
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER = WordPieceTokenizer(Vocabulary((*SPECIAL, "a", "b", "##c", "##d")))
WORDS = word_pieces(TOKENIZER, whole_words=True)


def tokenized(documents, encode=WORDS):
    return tokenize_documents(documents, encode, len(TOKENIZER.vocabulary))


def documents_of(lengths):
    sentences = [length for document in lengths for length in document]
    return TokenizedDocuments(
        np.arange(sum(sentences), dtype=np.int32),
        np.zeros(sum(sentences), bool),
        np.concatenate([[0], np.cumsum(sentences, dtype=np.int64)]),
        np.concatenate([[0], np.cumsum([len(document) for document in lengths], dtype=np.int64)]),
        np.arange(len(lengths), dtype=np.uint64),
    )


def test_long_sentences_are_cut_between_words():
    cut = cut_long_sentences(tokenized([(1, ["a b", "acd b acd bd a a"]), (2, ["a"])]), 7)
    sentences = [cut.ids[start:end].tolist() for start, end in zip(cut.sentence_offsets, cut.sentence_offsets[1:])]
    assert sentences == [[5, 6], [5, 7, 8, 6], [5, 7, 8], [6, 8, 5, 5], [5]]
    assert cut.document_offsets.tolist() == [0, 4, 5]


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=6), st.integers(1, 12))
def test_cutting_moves_no_token(lengths, room):
    documents = documents_of(lengths)
    cut = cut_long_sentences(documents, room)
    assert np.diff(cut.sentence_offsets).min() > 0
    assert np.diff(cut.sentence_offsets).max() <= room
    assert set(documents.sentence_offsets) <= set(cut.sentence_offsets)
    tokens_before = documents.sentence_offsets[documents.document_offsets]
    assert (cut.sentence_offsets[cut.document_offsets] == tokens_before).all()


def test_empty_sentences_and_documents_are_left_out():
    documents = tokenized([(7, ["", "ac b", "\u00ad"]), (8, ["", ""]), (9, ["b"])])
    assert documents.ids.dtype == np.uint16
    assert documents.ids.tolist() == [5, 7, 6, 6]
    assert documents.continues.tolist() == [False, True, False, False]
    assert documents.sentence_offsets.tolist() == [0, 3, 4]
    assert documents.document_offsets.tolist() == [0, 1, 2]
    assert documents.keys.tolist() == [7, 9]


def test_without_whole_words_every_piece_is_a_unit():
    documents = tokenized([(7, ["acd b"])], word_pieces(TOKENIZER, whole_words=False))
    assert documents.continues.tolist() == [False] * 4


def test_a_segmenters_words_are_units():
    chinese = WordPieceTokenizer(Vocabulary((*SPECIAL, *"使用语言模型")))
    encode = word_pieces(chinese, True, segmenter("presegmented"))
    documents = tokenize_documents([(1, ["使用 语言 模型"])], encode, 11)
    assert documents.ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert documents.continues.tolist() == [False, True] * 3


def test_nothing_gives_nothing():
    empty = tokenized([])
    assert len(cut_long_sentences(empty, 5).ids) == 0 and len(empty.keys) == 0


def test_ids_of_a_large_vocabulary_are_kept_whole():
    large = WordPieceTokenizer(Vocabulary((*SPECIAL, *(f"w{number}" for number in range(70_000)))))
    documents = tokenize_documents([(1, ["w69999"])], word_pieces(large, True), 70_005)
    assert documents.ids.dtype == np.int32 and documents.ids.tolist() == [70_004]


def test_document_keys_are_stable():
    # These numbers make the records: a change of theirs changes every artifact.
    assert document_key("wikipedia:enwiki:12") == 8525535099752476902
