"""Documents to training instances: pairs of text spans A and B for the next-sentence task.

Follows google-research/bert's create_instances_from_document, with three of its measured defects mended:
half of the pairs are random ones (not 55-61 %), a random B never comes from A's own document, and a document
of one sentence yields true pairs, too. Every A and B is a span of one flat array of ids, so packing yields
numbers only, in lockstep over all documents and passes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from bertline.components.hashing import Bits, below, draw, heads, unit
from bertline.tokenizer.encode import truncated_lengths
from bertline.tokenizer.wordpiece import WordPieceTokenizer

SPECIAL_TOKENS_IN_PAIR = 3  # [CLS] A [SEP] B [SEP]
SHORTEST_TARGET = 2  # tokens
RANDOM_NEXT_PROB = 0.5  # Devlin et al. 2018, 3.1
TOKENIZED_AT_ONCE = 4096  # sentences; more would only take memory

# What a random number of a step decides.
IS_SHORT, TARGET, IS_RANDOM, SPLIT, CUT, DOCUMENT, SENTENCE, FRONT_A, FRONT_B, INSTANCE = range(10)


@dataclass(frozen=True)
class TokenizedDocuments:
    """D documents of S sentences in one array of T ids; no sentence and no document is empty."""

    ids: NDArray[np.integer]  # [T]
    sentence_offsets: NDArray[np.int64]  # [S + 1], tokens before each sentence
    document_offsets: NDArray[np.int64]  # [D + 1], sentences before each document
    keys: Bits  # [D], hashes of the document ids


@dataclass(frozen=True)
class Instances:
    """N pairs of spans of TokenizedDocuments.ids; each array is [N]."""

    starts_a: NDArray[np.int64]
    lengths_a: NDArray[np.int64]
    starts_b: NDArray[np.int64]
    lengths_b: NDArray[np.int64]
    is_random_next: NDArray[np.bool_]
    keys: Bits  # for the order and the masks

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: "NDArray[np.integer] | NDArray[np.bool_] | slice") -> "Instances":
        """The instances at `indices`."""
        return Instances(*(getattr(self, column.name)[indices] for column in fields(self)))


def tokenize_documents(documents: Iterable[tuple[int, list[str]]], tokenizer: WordPieceTokenizer) -> TokenizedDocuments:
    """Documents given as (key, sentences), without the sentences and documents that hold no token."""
    # Ids of up to 65,536 entries take two bytes each: half a megabyte for a megabyte of text.
    dtype = np.uint16 if len(tokenizer.vocabulary) <= 1 << 16 else np.int32
    keys, sentence_counts = [], []
    ids, lengths = [np.zeros(0, dtype)], [np.zeros(0, np.int64)]
    waiting: list[str] = []

    def tokenize_waiting() -> None:
        encoded, offsets = tokenizer.encode_lines(waiting)
        ids.append(encoded.astype(dtype))
        lengths.append(np.diff(offsets))
        waiting.clear()

    for key, sentences in documents:
        keys.append(key)
        sentence_counts.append(len(sentences))
        waiting.extend(sentences)
        if len(waiting) >= TOKENIZED_AT_ONCE:
            tokenize_waiting()
    tokenize_waiting()
    return _without_empty(
        np.concatenate(ids), np.concatenate(lengths), np.array(sentence_counts, np.int64), np.array(keys, np.uint64)
    )


def cut_long_sentences(
    documents: TokenizedDocuments, room: int, continues_word: NDArray[np.bool_]
) -> TokenizedDocuments:
    """The same tokens with every sentence of more than `room` ones cut in pieces of half of it, between words.

    The original shortens such sentences to one instance's length and never uses the rest; two pieces fill
    an instance. `continues_word` is [vocabulary], True for "##" pieces.
    """
    piece = (room + 1) // 2
    offsets = documents.sentence_offsets
    lengths = np.diff(offsets)
    long = np.flatnonzero(lengths > room)
    cuts_per_sentence = (lengths[long] - 1) // piece
    first_cuts = np.cumsum(cuts_per_sentence) - cuts_per_sentence
    ordinal = np.arange(cuts_per_sentence.sum()) - np.repeat(first_cuts, cuts_per_sentence) + 1
    cuts = np.repeat(offsets[long], cuts_per_sentence) + ordinal * piece
    token = np.arange(len(documents.ids))
    word_starts = np.maximum.accumulate(np.where(continues_word[documents.ids], 0, token))
    cuts = np.setdiff1d(word_starts[cuts], offsets)
    sentences_before = documents.document_offsets + np.searchsorted(cuts, offsets[documents.document_offsets])
    return TokenizedDocuments(documents.ids, np.sort(np.concatenate([offsets, cuts])), sentences_before, documents.keys)


@dataclass(frozen=True)
class _Lanes:
    """Places at which documents are being read, one lane per document and pass; each array is [L]."""

    documents: NDArray[np.int64]  # numbers of the documents
    keys: Bits
    targets: NDArray[np.int64]  # tokens that a chunk aims at
    sentences: NDArray[np.int64]  # the next sentence of each
    ends: NDArray[np.int64]  # the sentence after the document's last

    def moved_to(self, sentences: NDArray[np.int64]) -> "_Lanes":
        """The lanes at their next sentences, without those at their document's end."""
        left = sentences < self.ends
        return _Lanes(self.documents[left], self.keys[left], self.targets[left], sentences[left], self.ends[left])


def pack(
    documents: TokenizedDocuments, *, seed: int, dupe_factor: int, max_seq_length: int, short_seq_prob: float
) -> Instances:
    """The instances of `dupe_factor` passes over the documents, in no useful order.

    Every step of a lane takes a chunk of sentences and makes one instance of it. With one document only,
    no pair is random: there is nowhere else to take a B from.
    """
    room = max_seq_length - SPECIAL_TOKENS_IN_PAIR
    lanes = _first_lanes(documents, seed, dupe_factor, room, short_seq_prob)
    steps = [Instances(*(np.zeros(0, np.int64),) * 4, np.zeros(0, bool), np.zeros(0, np.uint64))]
    step = 0
    while len(lanes.keys):
        step += 1
        pairs, next_sentences = _pairs(documents, lanes, draw(lanes.keys, step))
        steps.append(_truncated(pairs.take(pairs.lengths_b > 0), room))
        lanes = lanes.moved_to(next_sentences)
    return Instances(*(np.concatenate([getattr(part, column.name) for part in steps]) for column in fields(Instances)))


def _first_lanes(
    documents: TokenizedDocuments, seed: int, dupe_factor: int, room: int, short_seq_prob: float
) -> _Lanes:
    numbers = np.tile(np.arange(len(documents.keys)), dupe_factor)
    passes = np.repeat(np.arange(dupe_factor), len(documents.keys))
    keys = draw(documents.keys[numbers], seed, passes)
    # One target for a document's whole pass, as in the original: short ones resemble fine-tuning's inputs.
    short_targets = SHORTEST_TARGET + below(draw(keys, 0, TARGET), room - SHORTEST_TARGET + 1)
    targets = np.where(unit(draw(keys, 0, IS_SHORT)) < short_seq_prob, short_targets, room)
    offsets = documents.document_offsets
    return _Lanes(numbers, keys, targets, offsets[numbers], offsets[numbers + 1])


def _pairs(documents: TokenizedDocuments, lanes: _Lanes, keys: Bits) -> tuple[Instances, NDArray[np.int64]]:
    """One pair per lane, yet too long, and the sentence at which each lane goes on.

    A pair that cannot be made has a B of length 0.
    """
    offsets = documents.sentence_offsets
    first = lanes.sentences
    tokens = offsets[first + 1] - offsets[first]
    wants_random = unit(draw(keys, IS_RANDOM)) < RANDOM_NEXT_PROB
    is_random = _possible_random(wants_random, tokens, lanes.ends - first, len(documents.keys))
    chunk_end = np.minimum(lanes.ends, np.searchsorted(offsets, offsets[first] + lanes.targets))
    # A chunk of one sentence has nothing to follow it: a true pair takes the next sentence as well.
    chunk_end = np.where(is_random, chunk_end, np.minimum(lanes.ends, np.maximum(chunk_end, first + 2)))
    sentences_in_chunk = chunk_end - first
    splits = 1 + below(draw(keys, SPLIT), np.maximum(sentences_in_chunk - 1, 1))
    end_a = offsets[first + splits]
    # The document's last sentence alone is cut in two.
    cut = offsets[first] + 1 + below(draw(keys, CUT), np.maximum(tokens - 1, 1))
    end_a = np.where(~is_random & (sentences_in_chunk == 1), np.minimum(cut, end_a), end_a)
    lengths_a = end_a - offsets[first]

    starts_b, lengths_b = end_a.copy(), offsets[chunk_end] - end_a
    rows = np.flatnonzero(is_random)
    starts_b[rows], lengths_b[rows] = _random_spans(
        documents, lanes.documents[rows], (lanes.targets - lengths_a)[rows], keys[rows]
    )
    pairs = Instances(offsets[first], lengths_a, starts_b, lengths_b, is_random, keys)
    # After a random pair the unused part of the chunk is put back, so that no sentence is wasted.
    return pairs, np.where(is_random, first + splits, chunk_end)


def _possible_random(
    wants_random: NDArray[np.bool_], tokens: NDArray[np.int64], sentences_left: NDArray[np.int64], documents: int
) -> NDArray[np.bool_]:
    """Which pairs are random: the wanted ones and those of a last sentence that is too short to cut."""
    if documents == 1:
        return np.zeros(len(wants_random), bool)
    return wants_random | ((tokens == 1) & (sentences_left == 1))


def _random_spans(
    documents: TokenizedDocuments, own: NDArray[np.int64], wanted: NDArray[np.int64], keys: Bits
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of spans of at least `wanted` tokens, where there are so many, of other documents."""
    if not len(own):
        return own, own
    sentence_offsets, document_offsets = documents.sentence_offsets, documents.document_offsets
    other = below(draw(keys, DOCUMENT), len(documents.keys) - 1)
    other += other >= own
    first = document_offsets[other]
    last = document_offsets[other + 1]
    sentence = first + below(draw(keys, SENTENCE), last - first)
    starts = sentence_offsets[sentence]
    enough = np.maximum(np.searchsorted(sentence_offsets, starts + wanted), sentence + 1)
    return starts, sentence_offsets[np.minimum(last, enough)] - starts


def _truncated(pairs: Instances, room: int) -> Instances:
    """The pairs with tokens taken from the longer span, each from its front or its back by a coin's toss.

    The original takes them one by one; how many go from the front is binomial.
    """
    lengths_a, lengths_b = truncated_lengths(pairs.lengths_a, pairs.lengths_b, room)
    front_a = heads(draw(pairs.keys, FRONT_A), pairs.lengths_a - lengths_a)
    front_b = heads(draw(pairs.keys, FRONT_B), pairs.lengths_b - lengths_b)
    keys = draw(pairs.keys, INSTANCE)
    return Instances(
        pairs.starts_a + front_a, lengths_a, pairs.starts_b + front_b, lengths_b, pairs.is_random_next, keys
    )


def _without_empty(
    ids: NDArray[np.integer], lengths: NDArray[np.int64], sentence_counts: NDArray[np.int64], keys: Bits
) -> TokenizedDocuments:
    document_of_sentence = np.repeat(np.arange(len(keys)), sentence_counts)
    kept_counts = np.bincount(document_of_sentence[lengths > 0], minlength=len(keys))
    return TokenizedDocuments(
        ids,
        np.concatenate([[0], np.cumsum(lengths[lengths > 0])]),
        np.concatenate([[0], np.cumsum(kept_counts[kept_counts > 0])]),
        keys[kept_counts > 0],
    )
