"""Text to ids of word pieces: greedy longest match first, for whole blocks of lines at once.

Exact with respect to google-research/bert's `FullTokenizer`. A word is split into pieces once, when it is
first seen; after that it costs a look-up in a compiled loop.
"""

import hashlib
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.normalize import LineNormalizer

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
MAX_WORD_CHARACTERS = 200  # google-research/bert, max_input_chars_per_word; longer words are [UNK]
BLOCK_CHARACTERS = 1 << 20  # small enough for its arrays to stay in the cache
MAX_KNOWN_WORDS = 1 << 19  # then the words are learned afresh, so that memory is bounded: at most 40 MB
# Above this share of pieces with capital letters a vocabulary is cased. The released cased one has 29%, the uncased
# one none; words that users put into the [unused] entries stay far below.
CASED_SHARE = 0.01
# A cased vocabulary that is mostly of another script still has the single letters: half of A to Z is enough.
CASED_LETTERS = 13


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a vocab.txt; a piece's id is its line number, that of the last one for duplicates."""

    tokens: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {token: number for number, token in enumerate(self.tokens)})

    def __len__(self) -> int:
        return len(self.tokens)

    def note(self) -> dict[str, int | str]:
        """What tells it from others, in JSON: entries, and the sha256 of the tokens, a line each."""
        return {"entries": len(self), "sha256": hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()}

    @cached_property
    def continuations(self) -> NDArray[np.bool_]:
        """Which pieces go on with a word ("##ed"), bool [len(self)]."""
        return np.array([token.startswith(CONTINUATION) for token in self.tokens])

    @cached_property
    def capitals(self) -> tuple[str, ...]:
        """The pieces that lower-casing would change, without [CLS], <S> and other markers."""
        return tuple(piece for piece in self.tokens if piece != piece.lower() and not is_marker(piece))

    @property
    def is_cased(self) -> bool:
        """Whether its pieces are of text that keeps its case and accents."""
        letters = sum(letter in self.ids for letter in string.ascii_uppercase)
        return letters >= CASED_LETTERS or len(self.capitals) > CASED_SHARE * len(self)

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


def is_marker(piece: str) -> bool:
    """Whether a piece stands for no text: [CLS], <S>."""
    return len(piece) > 2 and (piece[0], piece[-1]) in (("[", "]"), ("<", ">"))


def load_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a vocab.txt.

    Raises FileNotFoundError for a missing file, ValueError for an empty one, for one that is not UTF-8
    and for one that lacks a special token.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such vocabulary; give the path of a vocab.txt")
    return parse_vocabulary(path.read_bytes(), str(path))


def parse_vocabulary(content: bytes, where: str) -> Vocabulary:
    """The vocabulary in the bytes of a vocab.txt; errors are those of `load_vocabulary` and name `where`."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error}); a vocab.txt holds one token a line") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    vocabulary = Vocabulary(tuple(line.strip() for line in lines))
    if not any(vocabulary.tokens):
        raise ValueError(f"{where}: the vocabulary is empty; a vocab.txt holds one token a line")
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary.ids]
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(missing)}; a BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}")
    return vocabulary


class WordPieceTokenizer:
    """Encodes text with a vocabulary; `do_lower_case` must be what the vocabulary was made with."""

    def __init__(self, vocabulary: Vocabulary, do_lower_case: bool = True) -> None:
        from bertline.tokenizer.wordtable import WordTable  # it loads Numba, which a vocabulary alone does not need

        self.vocabulary = vocabulary
        self.do_lower_case = do_lower_case
        self._normalizer = LineNormalizer(do_lower_case)
        self._longest_piece = max(map(len, vocabulary.tokens))
        self._words = WordTable(MAX_KNOWN_WORDS, [vocabulary.unk_id])
        self._lock = Lock()  # threads may share a tokenizer, and the compiled loops run side by side

    def __reduce__(self) -> tuple[type["WordPieceTokenizer"], tuple[Vocabulary, bool]]:
        """Travels without the words that it has met."""
        return WordPieceTokenizer, (self.vocabulary, self.do_lower_case)

    def encode_lines(self, lines: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of all lines, int32 [N], and where each line begins among them, int64 [len(lines) + 1].

        Line i is ids[offsets[i]:offsets[i + 1]]; no special tokens are added.
        """
        ids, offsets, count = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)], 0
        with self._lock:
            for block in _blocks(lines):
                for stretch, line_ends in self._stretches(block):
                    ids.append(stretch)
                    offsets.append(count + line_ends)
                    count += len(stretch)
        return np.concatenate(ids), np.concatenate(offsets)

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without special tokens."""
        return self.encode_lines([text])[0].tolist()

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text: "unwanted" -> ["un", "##want", "##ed"]."""
        return [self.vocabulary.tokens[number] for number in self.encode(text)]

    def word_ids(self, word: str) -> list[int]:
        """Greedy longest match; a word with a stretch that no piece matches is [UNK] as a whole."""
        if len(word) > MAX_WORD_CHARACTERS:
            return [self.vocabulary.unk_id]
        ids, start = [], 0
        while start < len(word):
            prefix = CONTINUATION if start else ""
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                number = self.vocabulary.ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return [self.vocabulary.unk_id]
            ids.append(number)
            start = end
        return ids

    def _split(self, word: bytes) -> list[int]:
        return self.word_ids(word.decode("utf-8", "surrogatepass"))

    def _stretches(self, lines: Sequence[str]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """The ids of the lines, and how many stand before each line's end, as far as the table has room each time."""
        text = np.frombuffer(self._normalizer.to_bytes(lines), np.uint8)
        position = 0
        while position < len(text):
            numbers, position = self._words.number(text, position, self._split)
            yield self._words.pieces(numbers)
            if position < len(text):
                self._words.clear()


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
