"""Documents to training instances: pairs of text spans A and B for the next-sentence task, and its variants.

Follows google-research/bert's create_instances_from_document. By default three of its measured defects are
mended: the share of random pairs is the one asked for (not 55-61 %), a random B never comes from A's own
document, and a document of one sentence yields true pairs, too; `google=True` keeps them. Every A and B is a span
of one flat array of ids, so that packing yields numbers only and no token is copied.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.rows import below, draw, toss_coins, unit
from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.encode import NO_SECOND_SEGMENT

PAIRS = ("next_sentence", "sentence_order", "none")
NEXT_SENTENCE, SENTENCE_ORDER, FULL_SENTENCES = range(3)
SPECIAL_TOKENS = {"next_sentence": 3, "sentence_order": 3, "none": 2}  # [CLS] A [SEP] B [SEP]; [CLS] A [SEP]
SHORTEST_TARGET = 2  # tokens
ORDINARY, UNUSUAL = 0, 1  # labels: next or random, in order or swapped
TRIES_FOR_ANOTHER_DOCUMENT = 10  # of the original, after which it takes A's own

# What a random number of a step decides.
(IS_SHORT, TARGET, IS_UNUSUAL, SPLIT, CUT, DOCUMENT, SENTENCE, FRONT_A, FRONT_B, INSTANCE, NOISE_A, NOISE_B) = range(12)


class TokenizedDocuments(NamedTuple):
    """D documents of S sentences in one array of T ids; no sentence and no document is empty."""

    ids: NDArray[np.uint16] | NDArray[np.int32]  # [T]
    continues: NDArray[np.bool_]  # [T], True for a piece that is masked together with the one before it
    sentence_offsets: NDArray[np.int64]  # [S + 1], tokens before each sentence
    document_offsets: NDArray[np.int64]  # [D + 1], sentences before each document
    keys: NDArray[np.uint64]  # [D], hashes of the document ids


class PackingRules(NamedTuple):
    """What packing needs to know of a configuration."""

    kind: int  # NEXT_SENTENCE, SENTENCE_ORDER or FULL_SENTENCES
    seed: int
    dupe_factor: int  # passes over the documents
    room: int  # tokens of A and B together
    short_seq_prob: float  # of a document's pass having a shorter target length
    unusual_prob: float  # of a pair being random, or swapped
    truncate_prob: float  # of a segment being cut at a random place
    google: bool  # with the defects of the original


class Instances(NamedTuple):
    """N pairs of spans of TokenizedDocuments.ids; each array is [N]."""

    starts_a: NDArray[np.int64]
    lengths_a: NDArray[np.int64]
    starts_b: NDArray[np.int64]
    lengths_b: NDArray[np.int64]  # NO_SECOND_SEGMENT where there is only A
    labels: NDArray[np.uint8]  # UNUSUAL: B is a random text, or A and B are swapped
    keys: NDArray[np.uint64]  # for the order and the masks

    def take(self, indices: "NDArray[np.integer] | slice") -> "Instances":
        """The instances at `indices`."""
        return Instances._make(column[indices] for column in self)


def packing_rules(
    pairs: str,
    *,
    seed: int,
    dupe_factor: int,
    max_seq_length: int,
    short_seq_prob: float = 0.1,
    random_next_prob: float = 0.5,
    truncate_prob: float = 0.0,
    google: bool = False,
) -> PackingRules:
    """The rules of one of PAIRS; ValueError for any other."""
    if pairs not in PAIRS:
        raise ValueError(f'pairs is "{pairs}"; it must be one of {", ".join(PAIRS)}')
    room = max_seq_length - SPECIAL_TOKENS[pairs]
    return PackingRules(
        PAIRS.index(pairs), seed, dupe_factor, room, short_seq_prob, random_next_prob, truncate_prob, google
    )


def pack(documents: TokenizedDocuments, rules: PackingRules) -> Instances:
    """The instances of all passes over the documents, document after document.

    Of one document only, pairs are never random (unless `google`): there is nowhere else to take a B from.
    """
    # Every instance takes a sentence at least; a document's last one can be cut in two.
    most = rules.dupe_factor * (len(documents.sentence_offsets) - 1)
    types = (np.int64, np.int64, np.int64, np.int64, np.uint8, np.uint64)
    out = Instances._make(np.empty(most, dtype) for dtype in types)
    count = _pack(documents, rules, out)
    return Instances._make(column[:count].copy() for column in out)


@compiled
def _pack(documents: TokenizedDocuments, rules: PackingRules, out: Instances) -> int:
    count = 0
    for document in range(len(documents.keys)):
        for repetition in range(rules.dupe_factor):
            key = draw(draw(documents.keys[document], rules.seed), repetition)
            count = _pack_document(documents, document, key, rules, out, count)
    return count


@compiled
def _pack_document(
    documents: TokenizedDocuments, document: int, key: np.uint64, rules: PackingRules, out: Instances, count: int
) -> int:
    """The instances of one pass over a document, written to `out` from `count` on."""
    target = rules.room
    # One target for a document's whole pass, as in the original: short ones resemble fine-tuning's inputs.
    if unit(draw(draw(key, 0), IS_SHORT)) < rules.short_seq_prob:
        target = SHORTEST_TARGET + below(draw(draw(key, 0), TARGET), rules.room - SHORTEST_TARGET + 1)
    sentence = documents.document_offsets[document]
    step = 0
    while sentence < documents.document_offsets[document + 1]:
        step += 1
        chosen = draw(key, step)
        if rules.kind == FULL_SENTENCES:
            pair, sentence = _full_sentences(documents, document, sentence, target)
        else:
            pair, sentence = _pair(documents, document, sentence, target, chosen, rules)
        if pair[3] == 0:
            continue
        start_a, length_a, start_b, length_b, label = _add_noise(_truncate(pair, chosen, rules), chosen, rules)
        out.starts_a[count], out.lengths_a[count] = start_a, length_a
        out.starts_b[count], out.lengths_b[count] = start_b, length_b
        out.labels[count], out.keys[count] = label, draw(chosen, INSTANCE)
        count += 1
    return count


@compiled
def _full_sentences(
    documents: TokenizedDocuments, document: int, sentence: int, target: int
) -> tuple[tuple[int, int, int, int, int], int]:
    """As many sentences as fit: RoBERTa's DOC-SENTENCES (Liu et al. 2019, 4.2), and the sentence after them."""
    offsets, end = documents.sentence_offsets, documents.document_offsets[document + 1]
    start, after = offsets[sentence], sentence + 1
    while after < end and offsets[after + 1] - start <= target:
        after += 1
    return (start, min(offsets[after] - start, target), start, NO_SECOND_SEGMENT, ORDINARY), after


@compiled
def _pair(
    documents: TokenizedDocuments, document: int, sentence: int, target: int, key: np.uint64, rules: PackingRules
) -> tuple[tuple[int, int, int, int, int], int]:
    """One pair (start and length of A and of B, label), maybe too long, and the sentence to go on at.

    A pair that cannot be made has a B of length 0.
    """
    offsets, end = documents.sentence_offsets, documents.document_offsets[document + 1]
    start = offsets[sentence]
    chunk_end = sentence + 1
    while chunk_end < end and offsets[chunk_end] - start < target:
        chunk_end += 1
    unusual = unit(draw(key, IS_UNUSUAL)) < rules.unusual_prob
    if not rules.google and sentence + 1 == end and offsets[end] - start == 1:
        # A last token alone: nothing can follow it. A random B could, but then more pairs than asked for were random.
        return (start, 1, start, 0, ORDINARY), end
    random_next = rules.kind == NEXT_SENTENCE and _is_random(documents, sentence, chunk_end, unusual, rules.google)
    if not random_next and not rules.google:
        # A chunk of one sentence has nothing to follow it: a true pair takes the next sentence as well.
        chunk_end = min(end, max(chunk_end, sentence + 2))
    after_a = sentence + 1 + below(draw(key, SPLIT), max(chunk_end - sentence - 1, 1))
    length_a = offsets[after_a] - start
    if random_next:
        start_b, length_b = _draw_span(documents, document, target - length_a, key, rules)
        # The rest of the chunk is put back, so that no sentence is wasted.
        return (start, length_a, start_b, length_b, UNUSUAL), after_a
    if chunk_end == sentence + 1:  # the document's last sentence alone is cut in two
        length_a = 1 + below(draw(key, CUT), length_a - 1)
    start_b, length_b = start + length_a, offsets[chunk_end] - start - length_a
    if rules.kind == SENTENCE_ORDER and unusual and length_b > 0:  # Lan et al. 2020 (ALBERT), 3.1
        return (start_b, length_b, start, length_a, UNUSUAL), chunk_end
    return (start, length_a, start_b, length_b, ORDINARY), chunk_end


@compiled
def _is_random(documents: TokenizedDocuments, sentence: int, chunk_end: int, wanted: bool, google: bool) -> bool:
    """Whether B is taken from elsewhere: where that is wanted; in the original also after a chunk of one sentence."""
    return (wanted and (google or len(documents.keys) > 1)) or (google and chunk_end - sentence == 1)


@compiled
def _draw_span(
    documents: TokenizedDocuments, own: int, wanted: int, key: np.uint64, rules: PackingRules
) -> tuple[int, int]:
    """Start and length of whole sentences of another document, at least `wanted` tokens where there are so many."""
    offsets, count = documents.sentence_offsets, len(documents.keys)
    if rules.google:
        other = own
        for attempt in range(TRIES_FOR_ANOTHER_DOCUMENT):
            other = below(draw(draw(key, DOCUMENT), attempt), count)
            if other != own:
                break
    else:
        other = below(draw(key, DOCUMENT), count - 1)
        other += other >= own
    first, end = documents.document_offsets[other], documents.document_offsets[other + 1]
    sentence = first + below(draw(key, SENTENCE), end - first)
    after = sentence + 1
    while after < end and offsets[after] - offsets[sentence] < wanted:
        after += 1
    return offsets[sentence], offsets[after] - offsets[sentence]


@compiled
def _truncate(
    pair: tuple[int, int, int, int, int], key: np.uint64, rules: PackingRules
) -> tuple[int, int, int, int, int]:
    """The pair with tokens taken from the longer span, each from its front or its back by a coin's toss.

    The original takes them one by one; how many go from the front is binomial.
    """
    start_a, length_a, start_b, length_b, label = pair
    if length_b == NO_SECOND_SEGMENT or length_a + length_b <= rules.room:
        return pair
    kept_a = min(length_a, max((rules.room + 1) // 2, rules.room - length_b))
    kept_b = min(length_b, rules.room - kept_a)
    start_a += toss_coins(draw(key, FRONT_A), length_a - kept_a)
    start_b += toss_coins(draw(key, FRONT_B), length_b - kept_b)
    return start_a, kept_a, start_b, kept_b, label


@compiled
def _add_noise(
    pair: tuple[int, int, int, int, int], key: np.uint64, rules: PackingRules
) -> tuple[int, int, int, int, int]:
    """The pair with some segments cut at a random place, to be robust to input that is not a sentence (the README)."""
    start_a, length_a, start_b, length_b, label = pair
    start_a, length_a = _cut_at_random(start_a, length_a, draw(key, NOISE_A), rules.truncate_prob)
    start_b, length_b = _cut_at_random(start_b, length_b, draw(key, NOISE_B), rules.truncate_prob)
    return start_a, length_a, start_b, length_b, label


@compiled
def _cut_at_random(start: int, length: int, key: np.uint64, prob: float) -> tuple[int, int]:
    if length < 2 or unit(draw(key, 0)) >= prob:
        return start, length
    kept = 1 + below(draw(key, 1), length - 1)
    from_front = below(draw(key, 2), 2) * (length - kept)
    return start + from_front, kept
