"""`bertline.Tokenizer`: text to ids and back, with the vocabulary and the case of a model of any format."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.model.formats.case import infer_case
from bertline.model.formats.detect import HUGGINGFACE_FILES, TF1_SUFFIXES, find_format, read_model
from bertline.model.formats.files import read_object
from bertline.model.formats.loaded_model import LoadedModel
from bertline.model.training.checkpoint import VOCABULARY_FILE
from bertline.settings import require_bool
from bertline.tokenizer.encoding import Encoding, Padding, encode_texts, list_texts
from bertline.tokenizer.wordpiece import (
    CLS,
    CONTINUATION,
    PAD,
    SEP,
    Vocabulary,
    WordPieceTokenizer,
    load_vocabulary,
    parse_vocabulary,
)

TRANSFORMERS_VOCAB_SIZE = 30522  # of a config.json that does not say it
DECODE_ROWS = "decode one row: [tokenizer.decode(row) for row in ids]"
FRAME = (PAD, CLS, SEP)  # what encode adds to a text


class Tokenizer:
    """Splits text into the word pieces of google-research/bert's FullTokenizer, and says where each lies in it.

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##want", "##ed"])
    >>> tokenizer.tokenize("Unwanted")
    ['un', '##want', '##ed']
    >>> tokenizer.encode("Unwanted").offsets.tolist()
    [[0, 0], [0, 2], [2, 6], [6, 8], [0, 0]]
    """

    def __init__(self, vocab: str | os.PathLike[str] | Sequence[str] | Vocabulary, do_lower_case: bool = True) -> None:
        """`vocab` is the path of a vocab.txt, or its entries by id; `do_lower_case` also strips accents.

        The latter must be what the vocabulary was made with; `Tokenizer.load` finds that out. Raises
        FileNotFoundError for a missing file, ValueError for one that is no vocabulary of a BERT, TypeError for entries
        in no order, or that are no texts.
        """
        require_bool("do_lower_case", do_lower_case)
        if isinstance(vocab, str | os.PathLike):
            vocab = _load_plain(Path(vocab).expanduser())
        elif not isinstance(vocab, Vocabulary):
            vocab = _parse_entries(vocab)
        self.wordpiece = WordPieceTokenizer(vocab, do_lower_case)  # plain ids, at the speed of a corpus

    @classmethod
    def load(cls, path: str | os.PathLike[str], do_lower_case: bool | None = None) -> "Tokenizer":
        """The tokenizer of a model of any format (a folder, a released zip), or that of a vocab.txt.

        The case is the model's own; where no file says it, that of the vocabulary's pieces. `do_lower_case` takes
        its place. Raises FileNotFoundError for a missing path, ValueError for what holds no vocabulary. No weights are
        read, but for a SavedModel's.
        """
        vocabulary, lower = _read(Path(path).expanduser())
        return cls(vocabulary, lower if do_lower_case is None else do_lower_case)

    @property
    def vocabulary(self) -> Vocabulary:
        """All pieces: `vocabulary.tokens[id]`, `vocabulary.ids[token]`, `vocabulary.mask_id` and so on."""
        return self.wordpiece.vocabulary

    @property
    def do_lower_case(self) -> bool:
        """Whether text is lower-cased and stripped of accents."""
        return self.wordpiece.do_lower_case

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text, without special tokens."""
        return self.wordpiece.tokenize(_one_text(text, "tokenize"))

    def encode(
        self,
        text: str | Iterable[str],
        pair: str | Iterable[str] | None = None,
        *,
        max_seq_length: int | None = None,
        padding: Padding = "longest",
        split_special_tokens: bool = True,
    ) -> Encoding:
        """What a model reads: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]; of a list of texts a row for each.

        Nothing is cut without `max_seq_length` (tokens, special ones among them). With it, a text loses its end, and a
        pair tokens of the longer text, as in google-research/bert. Rows are as wide as the longest, or max_seq_length
        wide with `padding="max_seq_length"`. "[MASK]" in a text falls apart into "[", "mask", "]", as in the original,
        unless `split_special_tokens` is false. Raises TypeError for what is no text, ValueError for other than one pair
        a text, and for a max_seq_length that leaves no room for a token of each.
        """
        return encode_texts(self.wordpiece, text, pair, max_seq_length, padding, split_special_tokens)

    def decode(self, ids: Iterable[int] | NDArray[np.integer] | Encoding, *, skip_special_tokens: bool = True) -> str:
        """The words of some ids, with blanks between them: case, accents and blanks of the text are gone.

        `ids` is one row, [W], or the encoding of one text. [CLS], [SEP] and [PAD] are left out unless
        `skip_special_tokens` is false; [MASK] and [UNK] stay. Raises ValueError for several rows and for ids that the
        vocabulary lacks, TypeError for what are no whole numbers.
        """
        tokens = [self.vocabulary.tokens[number] for number in self._list_ids(ids)]
        words: list[str] = []
        for token in tokens:
            if skip_special_tokens and token in FRAME:
                continue
            if token.startswith(CONTINUATION) and token != CONTINUATION and words:
                words[-1] += token.removeprefix(CONTINUATION)
            else:
                words.append(token)
        return " ".join(words)

    def _list_ids(self, ids: Iterable[int] | NDArray[np.integer] | Encoding) -> list[int]:
        given = ids.input_ids if isinstance(ids, Encoding) else ids
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(f"ids is {given!r}; give a list or an array of ids")
        try:
            array = np.array(given if isinstance(given, np.ndarray) else list(given))
        except ValueError:
            raise ValueError(f"ids has rows of unlike lengths; {DECODE_ROWS}") from None
        if array.ndim != 1:
            raise ValueError(f"ids has {array.ndim} dimensions; {DECODE_ROWS}")
        if len(array) and not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"ids holds {array.dtype} values; ids are whole numbers")
        if len(array) and not 0 <= array.min() <= array.max() < len(self):
            raise ValueError(
                f"ids holds {array.min()} to {array.max()}; the vocabulary has the ids 0 to {len(self) - 1}"
            )
        found: list[int] = array.tolist()
        return found

    def __len__(self) -> int:
        """The number of entries of the vocabulary."""
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"<Tokenizer: {len(self):,} pieces, {'uncased' if self.do_lower_case else 'cased'}>"


def tokenizer_of(loaded: LoadedModel, where: Path) -> Tokenizer:
    """The tokenizer of a model; ValueError for a vocabulary that is not as large as the model's."""
    checkpoint = loaded.checkpoint
    vocabulary = parse_vocabulary(checkpoint.vocabulary, str(where))
    if len(vocabulary) != checkpoint.bert_config.vocab_size:
        raise ValueError(
            f"{where}: the vocabulary has {len(vocabulary)} entries, but the model {checkpoint.bert_config.vocab_size} "
            "(vocab_size); take the vocabulary that belongs to this model"
        )
    return Tokenizer(vocabulary, checkpoint.do_lower_case)


def _one_text(text: object, method: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{method} takes one text (str), not {type(text).__name__}; call it for each")
    return text


def _load_plain(path: Path) -> Vocabulary:
    if path.is_dir():
        raise ValueError(f"{path}: a folder; bertline.Tokenizer.load reads the tokenizer in it, with its case")
    return load_vocabulary(path)


def _parse_entries(entries: Iterable[str]) -> Vocabulary:
    if isinstance(entries, Mapping | Set):
        kind, advice = type(entries).__name__, "sorted(vocab, key=vocab.get) of a dict of ids"
        raise TypeError(f"vocab is a {kind}; give the entries in the order of their ids: {advice}")
    listed, _ = list_texts(entries, "vocab")
    for number, entry in enumerate(listed):
        if "\n" in entry:
            raise ValueError(f"vocab: entry {number} is {entry!r}; an entry has no line break")
    return parse_vocabulary("".join(f"{entry}\n" for entry in listed).encode(), "vocab")


def _read(path: Path) -> tuple[Vocabulary, bool]:
    """Vocabulary and case, without the weights where these can be left alone."""
    if path.is_file() and path.suffix not in TF1_SUFFIXES and ".data-" not in path.name:
        return _read_plain(path, path)
    if (path / VOCABULARY_FILE).is_file() and not any((path / name).is_file() for name in HUGGINGFACE_FILES):
        return _read_plain(path / VOCABULARY_FILE, path)
    try:
        found = find_format(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{error}, or a {VOCABULARY_FILE}") from None
    if found == "huggingface":
        return _read_huggingface(path)
    if found == "tf1":
        from bertline.model.formats.tf1.folder import find_vocabulary, locate_checkpoint

        with locate_checkpoint(path) as prefix:
            return _read_plain(find_vocabulary(prefix.parent), path)
    tokenizer = tokenizer_of(read_model(path), path)
    return tokenizer.vocabulary, tokenizer.do_lower_case


def _read_plain(file: Path, path: Path) -> tuple[Vocabulary, bool]:
    """A vocab.txt, and the case that a file beside it or its pieces say."""
    vocabulary = load_vocabulary(file)
    return vocabulary, infer_case(vocabulary, file.parent, path)[0]


def _read_huggingface(path: Path) -> tuple[Vocabulary, bool]:
    from bertline.model.formats.huggingface.tokenizer import read_tokenizer

    modules, config = (path / name for name in HUGGINGFACE_FILES)
    if modules.is_file():
        from bertline.model.formats.huggingface.sentence_transformers import read_modules

        config = read_modules(path).folder / config.name
    read = read_tokenizer(config.parent, read_object(config).get("vocab_size", TRANSFORMERS_VOCAB_SIZE))
    return parse_vocabulary(read.vocabulary, str(path)), read.do_lower_case
