"""Documents as flat arrays of word-piece ids: what instances are spans of."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.segment import Segmenter, encode_units
from bertline.tokenizer.wordpiece import WordPieceTokenizer

TOKENIZED_AT_ONCE = 4096  # sentences; more would only take memory

Encoder = Callable[[list[str]], tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]]


class TokenizedDocuments(NamedTuple):
    """D documents of S sentences in one array of T ids; no sentence and no document is empty."""

    ids: NDArray[np.uint16] | NDArray[np.int32]  # [T]
    continues: NDArray[np.bool_]  # [T], True for a piece that is masked together with the one before it
    sentence_offsets: NDArray[np.int64]  # [S + 1], tokens before each sentence
    document_offsets: NDArray[np.int64]  # [D + 1], sentences before each document
    keys: NDArray[np.uint64]  # [D], hashes of the document ids


def word_pieces(tokenizer: WordPieceTokenizer, whole_words: bool, segment: Segmenter | None = None) -> Encoder:
    """The function that encodes lines: ids, offsets of the lines, and which pieces continue a unit.

    Units are words ("##" pieces continue them), the segmenter's units where there is one, or single pieces
    without `whole_words`.
    """
    if whole_words and segment is not None:
        return lambda lines: encode_units(tokenizer, lines, segment)
    continues_word = tokenizer.vocabulary.continuations & whole_words

    def encode(lines: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
        ids, offsets = tokenizer.encode_lines(lines)
        return ids, offsets, continues_word[ids]

    return encode


def tokenize_documents(
    documents: Iterable[tuple[int, list[str]]], encode: Encoder, vocab_size: int
) -> TokenizedDocuments:
    """Documents given as (key, sentences), without the sentences and documents that hold no token."""
    # Ids of up to 65,536 entries take two bytes each: half a megabyte for a megabyte of text.
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.int32
    keys, sentence_counts = [], []
    ids, continues, lengths = [np.zeros(0, dtype)], [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    waiting: list[str] = []

    def tokenize_waiting() -> None:
        encoded, offsets, flags = encode(waiting)
        ids.append(encoded.astype(dtype))
        continues.append(flags)
        lengths.append(np.diff(offsets))
        waiting.clear()

    for key, sentences in documents:
        keys.append(key)
        sentence_counts.append(len(sentences))
        waiting.extend(sentences)
        if len(waiting) >= TOKENIZED_AT_ONCE:
            tokenize_waiting()
    tokenize_waiting()
    offsets = _offsets_without_empty(np.concatenate(lengths), np.array(sentence_counts, np.int64))
    kept = np.array(keys, np.uint64)[offsets[2]]
    return TokenizedDocuments(np.concatenate(ids), np.concatenate(continues), offsets[0], offsets[1], kept)


def _offsets_without_empty(
    lengths: NDArray[np.int64], sentence_counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Offsets of the sentences and of the documents that hold a token, and which documents [D] those are."""
    document_of_sentence = np.repeat(np.arange(len(sentence_counts)), sentence_counts)
    kept_counts = np.bincount(document_of_sentence[lengths > 0], minlength=len(sentence_counts))
    sentence_offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    return sentence_offsets, np.concatenate([[0], np.cumsum(kept_counts[kept_counts > 0])]), kept_counts > 0


def cut_long_sentences(documents: TokenizedDocuments, room: int) -> TokenizedDocuments:
    """The same tokens with every sentence of more than `room` ones cut in pieces of about half of it, between units.

    The original shortens such sentences to one instance's length and never uses the rest; two pieces fill
    an instance.
    """
    lengths = np.diff(documents.sentence_offsets)
    piece = (room + 1) // 2
    most = len(lengths) + int((lengths[lengths > room] // piece).sum())
    sentence_offsets = np.zeros(most + 1, np.int64)
    document_offsets = np.zeros_like(documents.document_offsets)
    count = _cut(documents, room, piece, sentence_offsets, document_offsets)
    return documents._replace(sentence_offsets=sentence_offsets[: count + 1].copy(), document_offsets=document_offsets)


@compiled
def _cut(
    documents: TokenizedDocuments,
    room: int,
    piece: int,
    sentence_offsets: NDArray[np.int64],
    document_offsets: NDArray[np.int64],
) -> int:
    count = 0
    for document in range(len(documents.keys)):
        for sentence in range(documents.document_offsets[document], documents.document_offsets[document + 1]):
            start, end = documents.sentence_offsets[sentence], documents.sentence_offsets[sentence + 1]
            if end - start > room:
                for middle in range(start + piece, end, piece):
                    cut = middle
                    while documents.continues[cut] and cut > start:
                        cut -= 1
                    if cut > sentence_offsets[count]:
                        count += 1
                        sentence_offsets[count] = cut
            count += 1
            sentence_offsets[count] = end
        document_offsets[document + 1] = count
    return count
