"""Texts and pairs of texts as the model reads them, with the place of every piece in its text."""

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bertline.settings import require_one_of, whole_number
from bertline.tokenizer.alignment import PlacedPiece, place_pieces
from bertline.tokenizer.encode import NO_SECOND_SEGMENT, assemble_rows, truncated_lengths
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer

Padding = Literal["longest", "max_seq_length"]
PADDINGS: tuple[Padding, ...] = ("longest", "max_seq_length")
SPECIAL = re.compile(f"({'|'.join(map(re.escape, SPECIAL_TOKENS))})")
SHORTEST, SHORTEST_PAIR = 3, 5  # tokens, special ones among them
SHOWN = 12  # tokens in a repr
UNCUT = 1 << 40


@dataclass(frozen=True, eq=False, repr=False)
class Encoding:
    """One text or pair as [CLS] A [SEP] or [CLS] A [SEP] B [SEP]; or N of them, a row each, with zeros behind.

    W is the length of the one, or of the longest. An encoding of N has them by number and by slices, too:
    `encoding[2].tokens`, `encoding[:8].input_ids`.
    """

    input_ids: NDArray[np.int32]  # [W], or [N, W]
    input_mask: NDArray[np.int32]  # likewise; 1 for tokens, 0 for padding
    segment_ids: NDArray[np.int32]  # likewise; 1 for B and its [SEP]
    is_cut: NDArray[np.bool_]  # [], or [N]: whether max_seq_length shortened it
    texts: tuple[tuple[str, ...], ...]  # the text, or the two of a pair, of each row
    tokenizer: WordPieceTokenizer
    split_special_tokens: bool

    @property
    def tokens(self) -> list[str]:
        """The pieces and special tokens of the one text, without padding: ["[CLS]", "un", "##want", "[SEP]"]."""
        if self.input_ids.ndim > 1:
            raise ValueError(f"there are {len(self)} texts; ask one for its tokens: encoding[0].tokens")
        known = self.tokenizer.vocabulary.tokens
        return [known[number] for number in self.input_ids[self.input_mask == 1].tolist()]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First character of each token in its text, and the one after its last, [W, 2] or [N, W, 2].

        Both count in the text where segment_ids is 0, in the second of a pair where it is 1. [CLS], [SEP] and padding
        have (0, 0), [UNK] all of its word. They are computed when they are first asked for, about 0.2 MB/s.
        """
        offsets = np.zeros((*self.input_ids.shape, 2), np.int64)
        rows = [self] if self.input_ids.ndim == 1 else list(self)
        for row, places in zip(rows, [offsets] if self.input_ids.ndim == 1 else offsets):
            begin = 1
            for segment, text in enumerate(row.texts[0]):
                count = int(((row.segment_ids == segment) & (row.input_mask == 1)).sum()) - 1 - (segment == 0)
                found = [piece[1:] for piece in _place(self.tokenizer, text, self.split_special_tokens)[:count]]
                places[begin : begin + count] = np.array(found, np.int64).reshape(-1, 2)
                begin += count + 1
        return offsets

    def __len__(self) -> int:
        """The number of tokens of one text, or the number of texts."""
        return len(self.input_ids)

    def __getitem__(self, key: int | slice) -> "Encoding":
        """The encoding of text number `key`, or of those of a slice, as wide as that of all."""
        if self.input_ids.ndim == 1:
            raise TypeError("this is the encoding of one text; its arrays are input_ids, input_mask, segment_ids")
        if isinstance(key, slice):
            texts = self.texts[key]
        else:
            key = self._find_number(key)
            texts = (self.texts[key],)
        rows = (self.input_ids[key], self.input_mask[key], self.segment_ids[key], self.is_cut[key])
        return Encoding(*rows, texts, self.tokenizer, self.split_special_tokens)

    def _find_number(self, key: object) -> int:
        try:
            number = operator.index(key)  # type: ignore[arg-type]  # which is the question
        except TypeError:
            raise TypeError(
                f"texts are found by a number or a slice, not by {key!r}; the arrays are encoding.input_ids, "
                "encoding.input_mask and encoding.segment_ids"
            ) from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no text {number}; there are {len(self)}, numbered from 0")
        return number

    def __iter__(self) -> Iterator["Encoding"]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        if self.input_ids.ndim > 1:
            return f"<Encoding of {len(self)} texts, {self.input_ids.shape[1]} tokens wide>"
        tokens = self.tokens
        more = " ..." if len(tokens) > SHOWN else ""
        cut = ", cut" if self.is_cut else ""
        return f"<Encoding of {len(tokens)} tokens{cut}: {' '.join(tokens[:SHOWN])}{more}>"


def encode_texts(
    tokenizer: WordPieceTokenizer,
    text: str | Iterable[str],
    pair: str | Iterable[str] | None,
    max_seq_length: int | None,
    padding: Padding,
    split_special_tokens: bool,
) -> Encoding:
    """The encoding of a text or of several, each with its `pair` if there is one.

    Too long a text loses its end, too long a pair tokens of the longer text, as in google-research/bert. Raises
    TypeError for what is no text, ValueError for pairs that do not match and for an impossible length.
    """
    texts_a, is_one = list_texts(text, "text")
    texts_b = None if pair is None else _list_pairs(pair, texts_a, is_one)
    _require_usable(max_seq_length, padding, texts_b is not None)
    ids, offsets = _encode(tokenizer, [*texts_a, *(texts_b or ())], split_special_tokens)
    starts, whole, count = offsets[:-1], np.diff(offsets), len(texts_a)
    longest = UNCUT if max_seq_length is None else max_seq_length
    if texts_b is None:
        whole_b = lengths_b = np.full(count, NO_SECOND_SEGMENT, np.int64)
        starts_b, lengths_a = np.zeros(count, np.int64), np.minimum(whole, longest - 2)
    else:
        starts_b, whole_b = starts[count:], whole[count:]
        lengths_a, lengths_b = truncated_lengths(whole[:count], whole_b, longest - 3)
    fitting = int((lengths_a + lengths_b + 3).max(initial=2))
    width = max_seq_length if padding == "max_seq_length" and max_seq_length else fitting
    rows = assemble_rows(ids, starts[:count], lengths_a, starts_b, lengths_b, width, tokenizer.vocabulary)
    is_cut = (lengths_a < whole[:count]) | (lengths_b < whole_b)
    texts = tuple((each,) for each in texts_a) if texts_b is None else tuple(zip(texts_a, texts_b))
    arrays = rows["input_ids"], rows["input_mask"], rows["segment_ids"], is_cut
    encoding = Encoding(*arrays, texts, tokenizer, split_special_tokens)
    return encoding[0] if is_one else encoding


def list_texts(texts: str | Iterable[str], name: str) -> tuple[list[str], bool]:
    """The texts, and whether one was given by itself; TypeError, naming the first that is no text."""
    if isinstance(texts, str):
        return [texts], True
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} is {_show(texts)}; give a text (str), or a list of texts")
    listed = list(texts)
    for number, each in enumerate(listed):
        if not isinstance(each, str):
            raise TypeError(f"{name} {number} of {len(listed)} is {_show(each)}; each must be a text (str)")
    return listed, False


def _list_pairs(pair: str | Iterable[str], texts: Sequence[str], is_one: bool) -> list[str]:
    """The second texts; ValueError unless there is one for each of `texts`."""
    pairs, also_one = list_texts(pair, "pair")
    if is_one != also_one or len(texts) != len(pairs):
        sizes = ["one" if one else f"a list of {len(of)}" for one, of in ((is_one, texts), (also_one, pairs))]
        raise ValueError(f"text is {sizes[0]}, but pair is {sizes[1]}; give a pair for each text")
    return pairs


def _show(value: object) -> str:
    shown = repr(value)
    return f"of type {type(value).__name__}, {shown if len(shown) < 40 else shown[:37] + '...'}"


def _require_usable(max_seq_length: int | None, padding: str, has_pairs: bool) -> None:
    require_one_of("padding", str(padding), PADDINGS)
    if max_seq_length is None and padding == "max_seq_length":
        raise ValueError('padding is "max_seq_length", but that is not given; give max_seq_length, such as 128')
    if max_seq_length is not None:
        shortest = SHORTEST_PAIR if has_pairs else SHORTEST
        whole_number("max_seq_length", max_seq_length, shortest, "with its special tokens ")


def _encode(
    tokenizer: WordPieceTokenizer, texts: Sequence[str], split_special_tokens: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The ids of all texts [N], and where each begins among them [texts + 1]."""
    if split_special_tokens or not any(map(SPECIAL.search, texts)):
        return tokenizer.encode_lines(texts)
    stretches = [SPECIAL.split(text) for text in texts]  # of each text: words, special token, words, ...
    ids, offsets = tokenizer.encode_lines([words for of_text in stretches for words in of_text[::2]])
    found: list[NDArray[np.int32]] = []
    sizes, place = [0], 0
    for of_text in stretches:
        of_words = [ids[offsets[number] : offsets[number + 1]] for number in range(place, place + len(of_text[::2]))]
        of_marks = [np.array([tokenizer.vocabulary.ids[token]], np.int32) for token in of_text[1::2]]
        joined = [*chain.from_iterable(zip(of_words, of_marks)), of_words[-1]]
        found += joined
        sizes.append(sum(map(len, joined)))
        place += len(of_words)
    return np.concatenate(found), np.cumsum(sizes)


def _place(tokenizer: WordPieceTokenizer, text: str, split_special_tokens: bool) -> list[PlacedPiece]:
    """The pieces of a text with their places, special tokens among them unless they are split."""
    if split_special_tokens:
        return place_pieces(tokenizer, text)
    placed: list[PlacedPiece] = []
    begin = 0
    for number, stretch in enumerate(SPECIAL.split(text)):
        if number % 2:
            placed.append(PlacedPiece(tokenizer.vocabulary.ids[stretch], begin, begin + len(stretch)))
        else:
            found = place_pieces(tokenizer, stretch)
            placed += [PlacedPiece(piece.id, begin + piece.start, begin + piece.end) for piece in found]
        begin += len(stretch)
    return placed
