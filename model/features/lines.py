"""Lines of text -> windows of encoded lines: what extract_features reads, in bounded memory.

A line is one text, or two with " ||| " between them. Its tokens are [CLS] A [SEP], or [CLS] A [SEP] B [SEP], cut to
max_seq_length as google-research/bert's extract_features.py does.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.alignment import align_words, placed_words
from bertline.tokenizer.encode import NO_SECOND_SEGMENT, assemble_rows, truncated_lengths
from bertline.tokenizer.wordpiece import CLS, SEP, WordPieceTokenizer

PAIR = re.compile(r"^(.*) \|\|\| (.*)$")  # the last " ||| " counts
# What separates words for BERT: Python's blanks without those that it drops as control characters.
BETWEEN_WORDS = re.compile(r"[^\S\x0b\x0c\x1c-\x1f\x85]+")
LINES_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 1 << 22

PIECES, WORDS, BASIC_WORDS = UNITS = ("pieces", "words", "basic_words")


@dataclass(frozen=True)
class Window:
    """Lines that follow each other, encoded, and the units that get vectors: word pieces, or words.

    A unit goes up to the first token of the next one. A word without pieces has the first token of the next one.
    """

    first_line: int  # counted from 0
    rows: dict[str, NDArray[np.int32]]  # input_ids, input_mask, segment_ids, each [lines, width]
    lengths: NDArray[np.int64]  # [lines], tokens, special ones among them
    is_cut: NDArray[np.bool_]  # [lines], whether max_seq_length shortened it
    labels: list[str]  # [units]
    first_tokens: NDArray[np.int64]  # [units], counted through the tokens of all lines
    unit_counts: NDArray[np.int64]  # [lines]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class _Texts:
    """Texts as ids, and their words."""

    ids: NDArray[np.int32]  # [pieces]
    offsets: NDArray[np.int64]  # [texts + 1], of pieces
    words: list[str]
    first_pieces: NDArray[np.int64]  # [words]
    word_counts: NDArray[np.int64]  # [texts]


def split_pair(line: str) -> tuple[str, str]:
    """The two texts of a line; without a second one this is "", which has no pieces either."""
    stripped = line.strip()
    match = PAIR.match(stripped)
    return (match[1], match[2]) if match else (stripped, "")


def encode_windows(
    lines: Iterable[str],
    tokenizer: WordPieceTokenizer,
    max_seq_length: int,
    units: str,
    most_tokens: int,
    split_line: Callable[[str], tuple[str, str]] = split_pair,
) -> Iterator[Window]:
    """All lines in their order, in windows of about `most_tokens` tokens at most.

    `split_line` gives the two texts of a line. `units` says what gets a vector: every word piece, every word between
    blanks, or every word and punctuation mark of BERT's basic tokenization. [CLS] and [SEP] are units always.
    """
    first_line = 0
    for chunk in _cut_chunks(lines):
        window = _encode([*map(split_line, chunk)], first_line, tokenizer, max_seq_length, units)
        count = -(-int(window.lengths.sum()) // most_tokens)
        yield from _cut_window(window, count) if count > 1 else [window]
        first_line += len(chunk)


def _cut_chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    characters = 0
    for line in lines:
        chunk.append(line)
        characters += len(line)
        if len(chunk) == LINES_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _encode(
    lines: Sequence[tuple[str, str]], first_line: int, tokenizer: WordPieceTokenizer, max_seq_length: int, units: str
) -> Window:
    texts_a, texts_b = zip(*lines)
    texts = _encode_texts([*texts_a, *texts_b], tokenizer, units)
    starts, sizes = texts.offsets[:-1], np.diff(texts.offsets)
    whole_a, whole_b = sizes[: len(lines)], sizes[len(lines) :]
    kept_a, kept_b = truncated_lengths(whole_a, whole_b, max_seq_length - 3)
    kept_a = np.where(whole_b == 0, np.minimum(whole_a, max_seq_length - 2), kept_a)
    lengths_b = np.where(kept_b == 0, NO_SECOND_SEGMENT, kept_b)  # cut to nothing: no [SEP] either
    lengths = kept_a + lengths_b + 3
    width = int(lengths.max())
    rows = assemble_rows(
        texts.ids, starts[: len(lines)], kept_a, starts[len(lines) :], lengths_b, width, tokenizer.vocabulary
    )
    is_cut = (kept_a < whole_a) | (kept_b < whole_b)
    if units == PIECES:
        pieces = rows["input_ids"][rows["input_mask"] == 1].tolist()
        labels = [tokenizer.vocabulary.tokens[piece] for piece in pieces]
        return Window(first_line, rows, lengths, is_cut, labels, np.arange(len(labels)), lengths)
    return Window(first_line, rows, lengths, is_cut, *_place_units(texts, kept_a, lengths_b))


def _encode_texts(texts: Sequence[str], tokenizer: WordPieceTokenizer, units: str) -> _Texts:
    if units == PIECES:
        none = np.zeros(0, np.int64)
        return _Texts(*tokenizer.encode_lines(texts), [], none, none)
    if units == WORDS:
        words = [[word for word in BETWEEN_WORDS.split(text) if word] for text in texts]
        ids, first_pieces = align_words(tokenizer, list(chain.from_iterable(words)))
    else:
        placed = [list(placed_words(text, tokenizer.do_lower_case)) for text in texts]
        words = [[text[word.starts[0] : word.ends[-1]] for word in of_text] for text, of_text in zip(texts, placed)]
        pieces = [tokenizer.word_ids(word.letters) for of_text in placed for word in of_text]
        ids = np.array(list(chain.from_iterable(pieces)), np.int32)
        first_pieces = np.cumsum([0, *map(len, pieces)])[:-1]
    counts = np.array([len(of_text) for of_text in words])
    offsets = np.append(first_pieces, len(ids))[np.cumsum([0, *counts])]
    return _Texts(ids, offsets, list(chain.from_iterable(words)), first_pieces, counts)


def _place_units(
    texts: _Texts, lengths_a: NDArray[np.int64], lengths_b: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Labels, first tokens and counts of the words that are left, and of the special tokens, in their order."""
    count = len(lengths_a)
    begins = np.cumsum([0, *(lengths_a + lengths_b + 3)])[:-1]  # [lines], of each line's tokens
    text_begins = np.concatenate([begins + 1, begins + lengths_a + 2])  # [texts]
    kept = np.concatenate([lengths_a, np.maximum(lengths_b, 0)])  # [texts]
    of_text = np.repeat(np.arange(2 * count), texts.word_counts)  # [words]
    places = texts.first_pieces - texts.offsets[of_text]  # [words], in their texts
    # A word without pieces at the end of a text stays, unless the text was cut there.
    is_kept = places < np.where(kept < np.diff(texts.offsets), kept, kept + 1)[of_text]
    is_kept &= (lengths_b >= 0)[of_text % count] | (of_text < count)
    words = [word for word, is_left in zip(texts.words, is_kept.tolist()) if is_left]
    pairs = np.flatnonzero(lengths_b >= 0)
    labels = [*words, *[CLS] * count, *[SEP] * (count + len(pairs))]
    firsts = np.concatenate(
        [
            (text_begins[of_text] + places)[is_kept],
            begins,
            begins + lengths_a + 1,
            (begins + lengths_a + lengths_b + 2)[pairs],
        ]
    )
    order = np.argsort(firsts, kind="stable")  # a word without pieces comes before the [SEP] after it
    lines = np.concatenate([(of_text % count)[is_kept], np.arange(count), np.arange(count), pairs])
    return [labels[place] for place in order.tolist()], firsts[order], np.bincount(lines, minlength=count)


def _cut_window(window: Window, count: int) -> Iterator[Window]:
    """The window cut into so many of about equally many tokens."""
    token_ends, unit_ends = np.cumsum(window.lengths), np.cumsum(window.unit_counts)
    bounds = np.searchsorted(token_ends, token_ends[-1] * np.arange(1, count + 1) / count)
    first = 0
    for last in np.unique(bounds + 1).tolist():
        lines = slice(first, last)
        tokens = token_ends[first - 1] if first else 0
        units = slice(int(unit_ends[first - 1]) if first else 0, int(unit_ends[last - 1]))
        width = int(window.lengths[lines].max())
        yield Window(
            first_line=window.first_line + first,
            rows={name: rows[lines, :width] for name, rows in window.rows.items()},
            lengths=window.lengths[lines],
            is_cut=window.is_cut[lines],
            labels=window.labels[units],
            first_tokens=window.first_tokens[units] - tokens,
            unit_counts=window.unit_counts[lines],
        )
        first = last
