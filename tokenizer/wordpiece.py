"""Text to ids of word pieces: greedy longest match first, for whole blocks of lines at once.

Exact with respect to google-research/bert's `FullTokenizer`. A word is split into pieces once, when it is
first seen; after that it costs a look-up in NumPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.lines import LineNormalizer
from bertline.tokenizer.normalize import is_punctuation
from bertline.tokenizer.wordtable import FREE, WordKeys, WordTable

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 200  # google-research/bert, max_input_chars_per_word; longer words are [UNK]
BLOCK_CHARACTERS = 1 << 20  # small enough for its arrays to stay in the cache
MAX_KNOWN_WORDS = 1 << 19  # then the words are learned afresh, so that memory is bounded: about 40 MB


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a vocab.txt; a piece's id is its line number, that of the last one for duplicates."""

    tokens: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {token: number for number, token in enumerate(self.tokens)})

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""
        return self.ids[PAD]

    @property
    def unk_id(self) -> int:
        """Id of [UNK]."""
        return self.ids[UNK]

    @property
    def cls_id(self) -> int:
        """Id of [CLS]."""
        return self.ids[CLS]

    @property
    def sep_id(self) -> int:
        """Id of [SEP]."""
        return self.ids[SEP]

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self.ids[MASK]


def load_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a vocab.txt.

    Raises FileNotFoundError for a missing file, ValueError for an empty one, for one that is not UTF-8
    and for one that lacks a special token.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such vocabulary; give the path of a vocab.txt")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); a vocab.txt holds one token a line") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    vocabulary = Vocabulary(tuple(line.strip() for line in lines))
    if not any(vocabulary.tokens):
        raise ValueError(f"{path}: the vocabulary is empty; a vocab.txt holds one token a line")
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary.ids]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; a BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}")
    return vocabulary


class WordPieceTokenizer:
    """Encodes text with a vocabulary; `do_lower_case` must be what the vocabulary was made with."""

    def __init__(self, vocabulary: Vocabulary, do_lower_case: bool = True) -> None:
        self.vocabulary = vocabulary
        self.do_lower_case = do_lower_case
        self._normalizer = LineNormalizer(do_lower_case)
        self._longest_piece = max(map(len, vocabulary.tokens))
        self._known = _KnownWords()

    def encode_lines(self, lines: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of all lines, int32 [N], and where each line begins among them, int64 [len(lines) + 1].

        Line i is ids[offsets[i]:offsets[i + 1]]; no special tokens are added.
        """
        ids, lengths = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for block in _blocks(lines):
            block_ids, block_lengths = self._encode_block(block)
            ids.append(block_ids)
            lengths.append(block_lengths)
        return np.concatenate(ids), np.cumsum(np.concatenate(lengths))

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without special tokens."""
        return self.encode_lines([text])[0].tolist()

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text: "unwanted" -> ["un", "##want", "##ed"]."""
        return [self.vocabulary.tokens[number] for number in self.encode(text)]

    def _encode_block(self, lines: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of the lines and how many each line has."""
        text = self._normalizer.to_bytes(lines)
        starts, ends, line_ends = _word_spans(text)
        numbers = self._numbers(text, starts, ends)
        ids, offsets = self._known.pieces(numbers)
        words_before = np.searchsorted(starts, line_ends)  # how many words begin before each line's end
        return ids, np.diff(offsets[words_before], prepend=0)

    def _numbers(self, text: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int32]:
        """The number of every word among the known ones, to which new words are added."""
        if len(self._known.table) > MAX_KNOWN_WORDS:
            self._known = _KnownWords()
        table = self._known.table
        keys = table.keys(text, starts, ends)
        numbers = table.find(keys)
        new = np.flatnonzero(numbers == FREE)
        if len(new):
            spans = zip(starts[new].tolist(), ends[new].tolist())
            distinct = {text[start:end]: index for (start, end), index in zip(spans, new.tolist())}
            pieces = [self._word_ids(word.decode("utf-8", "surrogatepass")) for word in distinct]
            self._known.add(keys.take(np.fromiter(distinct.values(), np.int64)), pieces)
            numbers[new] = table.find(keys.take(new))
        return numbers

    def _word_ids(self, word: str) -> list[int]:
        """Greedy longest match; a word with a part that no piece matches is [UNK] as a whole."""
        if len(word) > MAX_WORD_CHARACTERS:
            return [self.vocabulary.unk_id]
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                number = self.vocabulary.ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return [self.vocabulary.unk_id]
            ids.append(number)
            start = end
        return ids


class _KnownWords:
    """The ids of the pieces of every word met so far, in one array, one word after the other."""

    def __init__(self) -> None:
        self.table = WordTable()
        self._pool = np.zeros(0, np.int32)
        self._firsts = np.zeros(0, np.int64)  # [words], where a word's pieces begin in the pool
        self._counts = np.zeros(0, np.int64)  # [words]

    def add(self, keys: WordKeys, pieces: list[list[int]]) -> None:
        """Enter distinct new words with their pieces."""
        counts = np.array([len(ids) for ids in pieces], np.int64)
        firsts = len(self._pool) + np.cumsum(counts) - counts
        self._firsts = np.concatenate([self._firsts, firsts])
        self._counts = np.concatenate([self._counts, counts])
        self._pool = np.concatenate([self._pool, np.array(list(chain.from_iterable(pieces)), np.int32)])
        self.table.add(keys)

    def pieces(self, numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of a sequence of words, and where each word begins among them, [words + 1]."""
        counts = self._counts[numbers]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        from_pool = np.repeat(self._firsts[numbers] - offsets[:-1], counts) + np.arange(offsets[-1])
        return self._pool[from_pool], offsets


def _blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of lines that hold about BLOCK_CHARACTERS; a longer line is a block of its own."""
    first, characters = 0, 0
    for number, line in enumerate(lines):
        characters += len(line)
        if characters >= BLOCK_CHARACTERS:
            yield lines[first : number + 1]
            first, characters = number + 1, 0
    if first < len(lines):
        yield lines[first:]


_BLANK, _LETTER, _PUNCTUATION = 0, 1, 2
_BYTE_CLASSES = np.array(
    [
        _PUNCTUATION if code < 128 and is_punctuation(chr(code)) else _LETTER if code > 32 else _BLANK
        for code in range(256)
    ],
    dtype=np.uint8,
)


def _word_spans(text: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of every word, and the position of every newline, as byte offsets.

    `text` comes from LineNormalizer and ends with a newline. A run of letters is a word; so is every
    single ASCII punctuation mark (others are letters here: they have blanks around them).
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    classes = _BYTE_CLASSES[codes]
    letter, punctuation = classes == _LETTER, classes == _PUNCTUATION
    begins, finishes = punctuation.copy(), np.zeros(len(codes), bool)
    begins[0] |= letter[0]
    begins[1:] |= letter[1:] & ~letter[:-1]
    finishes[1:] = (letter[:-1] & ~letter[1:]) | punctuation[:-1]
    return np.flatnonzero(begins), np.flatnonzero(finishes), np.flatnonzero(codes == ord("\n"))
