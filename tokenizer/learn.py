"""Counted words -> the pieces of a WordPiece vocabulary, always the same ones for the same words.

Merges the most frequent pair of neighbouring pieces again and again (Sennrich et al. 2016), as the trainer
of the tokenizers library does. That one breaks ties by the order of a hash table with random seeds, so
two of its runs give different vocabularies; here ties go to the pair that sorts first.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from bertline.tokenizer.wordpiece import CONTINUATION, MAX_WORD_CHARACTERS, SPECIAL_TOKENS

# Rarer words hardly move the counts of pairs; they would take most of the time and memory.
MAX_WORDS = 400_000

Pair = tuple[str, str]
HeapEntry = tuple[int, Pair]  # minus the count, so that the smallest entry is the most frequent pair


def learn_pieces(
    word_counts: Mapping[str, int],
    vocab_size: int,
    min_count: int,
    alphabet_size: int,
    on_piece: Callable[[], object] = lambda: None,
) -> tuple[list[str], int]:
    """The pieces of a vocabulary, special tokens first, and how many of them are single characters.

    `alphabet_size` bounds the characters: words with rarer ones are left out, as they will be [UNK]. There
    are fewer than `vocab_size` pieces when no pair occurs `min_count` times any more. `on_piece` is called
    for every piece made by merging. Raises ValueError when `vocab_size` cannot hold the special tokens and
    the characters.
    """
    words = _usable_words(word_counts, alphabet_size)
    characters = sorted({piece for word in words for piece in _characters(word)})
    pieces = [*SPECIAL_TOKENS, *characters]
    if vocab_size < len(pieces):
        raise ValueError(
            f"vocab_size is {vocab_size}, but the special tokens and the characters of the text are already "
            f"{len(pieces)}; raise vocab_size or lower alphabet_size"
        )
    known = set(pieces)
    for piece in _merge_pieces(words, min_count):
        if len(pieces) == vocab_size:
            break
        if piece not in known:  # several pairs can make the same piece
            known.add(piece)
            pieces.append(piece)
            on_piece()
    return pieces, len(characters)


def _usable_words(word_counts: Mapping[str, int], alphabet_size: int) -> dict[str, int]:
    """The most frequent words that consist of the most frequent characters."""
    characters: Counter[str] = Counter()
    for word, count in word_counts.items():
        for character in word:
            characters[character] += count
    alphabet = set(sorted(characters, key=lambda character: (-characters[character], character))[:alphabet_size])
    usable = [word for word in word_counts if len(word) <= MAX_WORD_CHARACTERS and alphabet.issuperset(word)]
    usable.sort(key=lambda word: (-word_counts[word], word))
    return {word: word_counts[word] for word in usable[:MAX_WORDS]}


def _characters(word: str) -> list[str]:
    return [word[0], *(CONTINUATION + character for character in word[1:])]


def _merge_pieces(word_counts: Mapping[str, int], min_count: int) -> Iterator[str]:
    """The pieces that merging makes, the most frequent first."""
    words = [_characters(word) for word in word_counts]
    counts = list(word_counts.values())
    pairs = _PairCounts()
    for number, pieces in enumerate(words):
        for pair in pairwise(pieces):
            pairs.add(pair, counts[number], number)
    heap: list[HeapEntry] = [(-count, pair) for pair, count in pairs.counts.items()]
    heapq.heapify(heap)
    while heap:
        count, pair = heapq.heappop(heap)
        current = pairs.counts.get(pair, 0)
        if current < min_count:
            continue
        if -count != current:  # merges of other pairs took some of this pair's places
            heapq.heappush(heap, (-current, pair))
            continue
        merged = pair[0] + pair[1].removeprefix(CONTINUATION)
        yield merged
        pairs.new.clear()
        for number in pairs.words.pop(pair):
            _merge(words[number], pair, merged, pairs, counts[number], number)
        del pairs.counts[pair]
        for new in pairs.new:
            heapq.heappush(heap, (-pairs.counts[new], new))


class _PairCounts:
    """How often pieces stand side by side, and in which words."""

    def __init__(self) -> None:
        self.counts: dict[Pair, int] = defaultdict(int)
        self.words: dict[Pair, set[int]] = defaultdict(set)  # also words that lost the pair to another merge
        self.new: set[Pair] = set()

    def add(self, pair: Pair, count: int, word: int) -> None:
        self.counts[pair] += count
        self.words[pair].add(word)
        self.new.add(pair)


def _merge(pieces: list[str], pair: Pair, merged: str, pairs: _PairCounts, count: int, word: int) -> None:
    """Replace every occurrence of `pair` in `pieces`, from the left, by `merged`, and count its new neighbours."""
    position = 0
    while position < len(pieces) - 1:
        if pieces[position] == pair[0] and pieces[position + 1] == pair[1]:
            pieces[position : position + 2] = [merged]
            if position > 0:
                pairs.counts[pieces[position - 1], pair[0]] -= count
                pairs.add((pieces[position - 1], merged), count, word)
            if position + 1 < len(pieces):
                pairs.counts[pair[1], pieces[position + 1]] -= count
                pairs.add((merged, pieces[position + 1]), count, word)
        position += 1
