"""Lines -> units that are masked whole although their pieces are not "##" ones: Chinese words, phrases, entities.

Text and vocabulary stay as they are. Words: Chinese-BERT-wwm (Cui et al. 2019); phrases and entities: ERNIE 1.0
(Sun et al. 2019).
"""

import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.alignment import word_starts
from bertline.tokenizer.wordpiece import WordPieceTokenizer

SHOWN_CHARACTERS = 80  # of a line, in messages
SPAN = re.compile(r"([0-9]+)-([0-9]+)")
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Segmented:
    """A text and its units text[start:end], in order, not overlapping; other characters stand alone."""

    text: str
    units: list[tuple[int, int]]


Segmenter = Callable[[str], Segmented]


def segmenter(name: str) -> Segmenter:
    """The segmenter of this name: "jieba", "presegmented", "spans" or "module:function".

    Raises ValueError for any other name, and for a module or function that does not exist.
    """
    if name in KNOWN:
        return KNOWN[name]()
    if ":" in name:
        return _from_function(name, _import_function(name))
    raise ValueError(
        f"unknown segmenter {name!r}; known are {', '.join(KNOWN)}, and module:function for a function of yours that "
        'takes a sentence and gives its words, such as "my_words:words_of"'
    )


def find_module_file(name: str) -> Path | None:
    """The file of the module in "module:function", where there is one: what it says decides the words."""
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):  # which `segmenter` refuses
        return None
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def presegmented(line: str) -> Segmented:
    """Words with blanks between them, as LTP writes them; the blanks change no id and stay.

    >>> presegmented("使用 语言 模型").units
    [(0, 2), (3, 5), (6, 8)]
    """
    return Segmented(line, [match.span() for match in WORD.finditer(line)])


def spans(line: str) -> Segmented:
    r"""A sentence, a tab, and the places of its phrases and entities, first character and the one after the last.

    >>> spans("哈尔滨是黑龙江的省会\t0-3 4-7")
    Segmented(text='哈尔滨是黑龙江的省会', units=[(0, 3), (4, 7)])

    A line without a tab has no units. Raises ValueError for a span that is malformed or out of place.
    """
    text, _, listed = line.partition("\t")
    units: list[tuple[int, int]] = []
    for span in listed.split():
        match = SPAN.fullmatch(span)
        if match is None:
            raise ValueError(f"span {span!r} is not START-END, such as 0-3, in the line {_quote(line)}")
        start, end = int(match[1]), int(match[2])
        if not start < end <= len(text):
            raise ValueError(
                f"span {span} is empty, reversed or beyond the sentence's {len(text)} characters, "
                f"in the line {_quote(line)}"
            )
        if units and start < units[-1][1]:
            raise ValueError(f"span {span} begins before the end of the one before it, in the line {_quote(line)}")
        units.append((start, end))
    return Segmented(text, units)


def _jieba() -> Segmenter:
    """The words of jieba with its own dictionary, which it caches in the folder for temporary files."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    # A tokenizer of its own: words that others add to the shared one would change what is masked.
    return _from_function("jieba", jieba.Tokenizer().lcut)


KNOWN: dict[str, Callable[[], Segmenter]] = {
    "jieba": _jieba,
    "presegmented": lambda: presegmented,
    "spans": lambda: spans,
}


def _import_function(name: str) -> Callable[[str], Iterable[str]]:
    module_name, _, function_name = name.partition(":")
    if not all(word.isidentifier() for word in module_name.split(".")):
        raise ValueError(f"segmenter {name!r}: {module_name!r} is not the name of a module; give module:function")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except ImportError as error:
        raise ValueError(f"segmenter {name}: {error}; is {module_name} on the PYTHONPATH?") from error
    if not callable(function):
        raise ValueError(f"segmenter {name}: {module_name} has no function {function_name!r}")
    return function


def _from_function(name: str, words_of: Callable[[str], Iterable[str]]) -> Segmenter:
    def segment(line: str) -> Segmented:
        units, end = [], 0
        for word in words_of(line):
            start = line.find(word, end)
            if start < 0:
                raise ValueError(f"segmenter {name}: no word {word!r} in {_quote(line[end:])}, the rest of the line")
            end = start + len(word)
            units.append((start, end))
        return Segmented(line, units)

    return segment


def _quote(line: str) -> str:
    return repr(line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}...")


def encode_units(
    tokenizer: WordPieceTokenizer, lines: Sequence[str], segment: Segmenter
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
    """The ids of all lines, int32 [N], where each line begins, int64 [len(lines) + 1], and what belongs together.

    The third, bool [N], is True for every piece that belongs to the unit of the piece before it: "##" pieces,
    and those that begin inside a unit when the unit has letters before them. "使用 语言" gives 使 用 语 言 with
    [False, True, False, True]. No unit reaches into the next line.
    """
    segmented = [segment(line) for line in lines]
    texts = [line.text for line in segmented]
    ids, offsets = tokenizer.encode_lines(texts)
    continues = tokenizer.vocabulary.continuations[ids]
    starts, lasting = word_starts(texts, tokenizer.do_lower_case)
    unit_starts, unit_ends = _unit_bounds(segmented)
    # The last unit that begins at or before a word; an empty one stands before the first.
    unit = np.searchsorted(unit_starts, starts, side="right") - 1
    letters_before = np.concatenate([[0], np.cumsum(lasting)])
    inside = (starts < unit_ends[unit]) & (letters_before[starts] > letters_before[unit_starts[unit]])
    # Every word begins with the one of its pieces that is not a "##" piece.
    continues[~continues] = inside
    return ids, offsets, continues


def _unit_bounds(lines: Sequence[Segmented]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of all units, through the lines with a blank after each, and an empty unit before them."""
    lengths = np.array([len(line.text) + 1 for line in lines], np.int64)
    counts = np.array([len(line.units) for line in lines], np.int64)
    bounds = np.array(list(chain.from_iterable(chain.from_iterable(line.units for line in lines))), np.int64)
    bounds = bounds.reshape(-1, 2) + np.repeat(np.cumsum(lengths) - lengths, counts)[:, None]
    return np.concatenate([[0], bounds[:, 0]]), np.concatenate([[0], bounds[:, 1]])
