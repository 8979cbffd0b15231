"""A released vocabulary, checked, or one learned from sentences -> vocab.txt."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from bertline.components.pretraining_data.files import list_sentence_files
from bertline.progress import Progress, say
from bertline.settings import require_at_least
from bertline.tokenizer.learn import learn_pieces
from bertline.tokenizer.normalize import LineNormalizer, strip_accents
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, load_vocabulary

VOCABULARY_FILE = "vocab.txt"
FEW = 0.9  # of the entries wanted: below, the user is told
BYTES_AT_ONCE = 1 << 20
WORTH_SAYING = 0.01  # of the words; English has some 0.1 %
SHOWN = 3


@dataclass(frozen=True)
class VocabularyConfig:
    """How a vocabulary is learned; of a released one nothing is changed."""

    vocab_size: int = 30000  # entries at most, special tokens among them; Devlin et al. 2018, 3: "a 30,000 token
    # vocabulary"
    do_lower_case: bool = True  # whether text is lower-cased and loses its accents; the records must say the same
    min_count: int = 2  # times that two pieces must stand side by side to become one
    alphabet_size: int = 1000  # characters at most, the most frequent ones; as the tokenizers library has it

    def __post_init__(self) -> None:
        """Refuse values that no vocabulary can have."""
        require_at_least(self, len(SPECIAL_TOKENS) + 1, "vocab_size")
        require_at_least(self, 1, "min_count", "alphabet_size")


def run(
    sentences: Path | None, out: Path, config: VocabularyConfig, *, released: Path | None = None
) -> dict[str, int | float]:
    """Write vocab.txt into `out`: the `released` one byte for byte, else one learned from `sentences`.

    Raises FileNotFoundError for missing inputs, ValueError for a vocabulary without the special tokens, for
    sentences without words, and for a vocab_size that cannot hold the text's characters.
    """
    if released is not None:
        return _copy_released(released, out / VOCABULARY_FILE)
    if sentences is None:
        raise ValueError("neither sentences nor a released vocabulary; give one of them")
    word_counts, marked = _count_words(sentences, config.do_lower_case)
    with Progress("vocabulary: pieces", config.vocab_size, "pieces") as progress:
        pieces, characters = learn_pieces(
            word_counts, config.vocab_size, config.min_count, config.alphabet_size, progress.advance
        )
        progress.advance(len(pieces) - progress.done)  # special tokens and characters, which are not made
    _tell_of_few_entries(len(pieces), word_counts.total(), config)
    if config.do_lower_case:
        _tell_of_lost_marks(marked, word_counts.total())
    (out / VOCABULARY_FILE).write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8", newline="\n")
    return {
        "entries": len(pieces),
        "entries.characters": characters,
        "entries.fewer_than_wanted": config.vocab_size - len(pieces),
        "words": word_counts.total(),
        "words.distinct": len(word_counts),
        **({"words.stripped_of_marks": marked.total()} if config.do_lower_case else {}),
    }


def _copy_released(released: Path, copy: Path) -> dict[str, int | float]:
    vocabulary = load_vocabulary(released)
    copy.write_bytes(released.read_bytes())
    return {"entries": len(vocabulary), "entries.duplicate": len(vocabulary) - len(vocabulary.ids)}


def _count_words(sentences: Path, do_lower_case: bool) -> tuple[Counter[str], Counter[str]]:
    """All words, as pieces are learned of them; and those that lose marks by it, in lower case as the text has them."""
    normalizer = LineNormalizer(do_lower_case)
    counts: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    texts = [Path(file.text) for file in list_sentence_files(sentences)]
    with Progress("vocabulary: words", sum(text.stat().st_size for text in texts), "bytes") as progress:
        for text in texts:
            for lines in _line_blocks(text, progress.advance):
                counts.update(normalizer.words(lines))
                marked.update(_list_marked_words(lines))
                progress.advance(0, distinct=len(counts))
    if not counts:
        raise ValueError(f'{sentences}: no word in its sentences; run "bertline split" on documents with text')
    return counts, marked


def _tell_of_few_entries(entries: int, words: int, config: VocabularyConfig) -> None:
    if entries < FEW * config.vocab_size:
        say(
            f"vocabulary: {entries:,} entries, not the {config.vocab_size:,} wanted: no further two pieces stand side "
            f"by side {config.min_count} times in the text's {words:,} words. It can be used as it is; more text makes "
            "a larger one, and so does a lower --min_count (in a run --vocabulary.min_count)"
        )


def _tell_of_lost_marks(marked: Counter[str], words: int) -> None:
    if marked.total() >= WORTH_SAYING * words:
        shown = ", ".join(f"{word} -> {strip_accents(word)}" for word, _ in marked.most_common(SHOWN))
        say(
            f"vocabulary: {marked.total() / words:.1%} of the words lose accents or other marks ({shown}): "
            "do_lower_case strips them; to keep them, and capital letters, set --do_lower_case=false"
        )


def _list_marked_words(lines: Sequence[str]) -> list[str]:
    """The words, in lower case, from which `strip_accents` takes a mark; those that it only writes otherwise stay."""
    characters = set("".join(line for line in lines if not line.isascii()))
    marked = [char for char in characters if len(strip_accents(char)) < len(unicodedata.normalize("NFD", char))]
    if not marked:
        return []
    any_marked = re.compile(f"[{re.escape(''.join(marked))}]")
    words = LineNormalizer(do_lower_case=False).words([line for line in lines if any_marked.search(line)])
    return [word.lower() for word in words if any_marked.search(word)]


def _line_blocks(text: Path, advance: Callable[[int], object]) -> Iterator[list[str]]:
    """The lines of a file, some at a time; `advance` is told how many more bytes are read."""
    position = 0
    with text.open("rb") as file, TextIOWrapper(file, "utf-8", newline="\n") as decoded:
        while lines := decoded.readlines(BYTES_AT_ONCE):
            advance(file.tell() - position)
            position = file.tell()
            yield [line.rstrip("\n") for line in lines]
