"""Rows of tokens to rows with some of their words to be predicted, and what stands in place of those.

Follows google-research/bert's create_masked_lm_predictions, with options of later work: spans of words
(ALBERT, SpanBERT) and one outcome for a whole word. Unlike there, a token is never replaced by a special or an [unused]
one, and a row whose left words are all too long for its budget gets one of them, if it can hold it. The same
code masks when records are written (static) and when they are read (dynamic).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.rows import ADVICE, Predictions, Rows, below, draw, unit
from bertline.settings import from_mapping
from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary

MASKED_SHARE, KEPT_SHARE = 0.8, 0.1  # Devlin et al. 2018, 3.1; the rest is replaced by a random token
MASKING_FILE = "masking.json"  # beside unmasked records: how to mask them
REPLACE_PER = ("piece", "word", "span")
PIECE, WORD, SPAN = range(3)

# What a random number of a row decides.
CHOICE, SPAN_LENGTH, OUTCOME, REPLACEMENT = range(4)
# How often each outcome came, as `mask` counts them.
MASKED, KEPT, RANDOM = range(3)


@dataclass(frozen=True)
class MaskConfig:
    """How to mask; defaults are those of create_pretraining_data."""

    max_predictions_per_seq: int = 20  # at most; 77 suits 512
    masked_lm_prob: float = 0.15  # of the tokens of a row; Devlin et al. 2018, 3.1
    max_ngram: int = 1  # words masked together at most, n of them with a chance of 1/n: ALBERT has 3
    span_geometric_p: float = (
        0.0  # chances of n words from a geometric distribution instead: SpanBERT has 0.2, up to 10
    )
    replace_per: str = "piece"  # what shares one of the outcomes [MASK], kept, random: piece, word or span
    google: bool = False  # random tokens from the whole vocabulary; rows may fall short of their budget


class MaskRules(NamedTuple):
    """What masking needs to know of a vocabulary and a configuration."""

    mask_id: int
    replacements: NDArray[np.int32]  # ids that may replace a token at random
    budgets: NDArray[np.int64]  # [W + 1], tokens to predict in a sequence of so many tokens
    max_predictions: int
    span_odds: NDArray[np.float64]  # [n], chances of at most 1, 2, ... n words in a span
    replace_per: int
    fills_budget: bool


def write_masking(folder: Path, config: MaskConfig, seed: int, vocabulary: Vocabulary) -> None:
    """Lay beside unmasked records what their readers need: how to mask, and the vocabulary's tokens."""
    content = {"mask": config.__dict__, "seed": seed, "tokens": vocabulary.tokens}
    (folder / MASKING_FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def read_masking(file: Path, max_seq_length: int) -> tuple[MaskRules, int]:
    """The rules that were laid beside unmasked records, for rows of that width, and their seed.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing, but the records are unmasked and need it; {ADVICE} again")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        settings, tokens, seed = content["mask"], tuple(content["tokens"]), int(content["seed"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not how records are to be masked ({error}); {ADVICE} again") from error
    return mask_rules(from_mapping(MaskConfig, settings), Vocabulary(tokens), max_seq_length), seed


def mask_rules(config: MaskConfig, vocabulary: Vocabulary, max_seq_length: int) -> MaskRules:
    """The rules for rows of that width. Raises ValueError for a vocabulary of nothing but special tokens."""
    allowed = [number for number, token in enumerate(vocabulary.tokens) if config.google or not is_reserved(token)]
    if not allowed:
        raise ValueError("the vocabulary holds special tokens only; give one with word pieces")
    return MaskRules(
        vocabulary.mask_id,
        np.array(allowed, np.int32),
        budgets(config, max_seq_length),
        config.max_predictions_per_seq,
        _span_odds(config),
        REPLACE_PER.index(config.replace_per),
        not config.google,
    )


def budgets(config: MaskConfig, max_seq_length: int) -> NDArray[np.int64]:
    """Tokens to predict in a sequence of so many tokens, [max_seq_length + 1]; a long word may lead beyond them."""
    # Python's and NumPy's rounding of halves to even, which the original uses.
    shares = np.rint(np.arange(max_seq_length + 1) * config.masked_lm_prob).astype(np.int64)
    return np.minimum(config.max_predictions_per_seq, np.maximum(1, shares))


def rules_within(rules: MaskRules, width: int) -> MaskRules:
    """The rules for the rows of a length bin: those of a narrower one hold no more than the budget of its width."""
    if width == len(rules.budgets) - 1:
        return rules
    return rules._replace(max_predictions=int(rules.budgets[width]))


def is_reserved(token: str) -> bool:
    """Whether a token stands for no text: empty, special or [unused]."""
    return not token or token in SPECIAL_TOKENS or token.startswith("[unused")


def mask(rows: Rows, keys: NDArray[np.uint64], rules: MaskRules) -> tuple[Rows, Predictions, NDArray[np.int64]]:
    """The rows with some tokens replaced, what stood there, and how often each outcome came, [3].

    `keys` [N] decide all that is random, each for its row.
    """
    shape = len(rows.labels), rules.max_predictions
    masked = rows._replace(token_ids=rows.token_ids.copy())
    predictions = Predictions(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape[0], np.int32))
    outcomes = np.zeros(3, np.int64)
    _mask_rows(masked, keys, rules, predictions, outcomes)
    return masked, predictions, outcomes


def _span_odds(config: MaskConfig) -> NDArray[np.float64]:
    words = np.arange(1, config.max_ngram + 1)
    p = config.span_geometric_p
    chances = p * (1 - p) ** (words - 1) if p else 1 / words  # Joshi et al. 2019, 3.1; Lan et al. 2020, 4.1
    return np.cumsum(chances) / chances.sum()


class _Units(NamedTuple):
    """The words of one row, or what else is masked as a whole; scratch, each array is [W]."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int64]  # tokens; fewer than end - start where a [SEP] lies between
    order: NDArray[np.int64]  # those not yet tried, then those tried, the last one first
    spans: NDArray[np.int64]  # 0, or the number of the span that a unit was chosen in


@compiled
def _mask_rows(
    rows: Rows,
    keys: NDArray[np.uint64],
    rules: MaskRules,
    predictions: Predictions,
    outcomes: NDArray[np.int64],
) -> None:
    width = rows.token_ids.shape[1]
    units = _Units(
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
    )
    for row in range(len(keys)):
        separator, length = rows.first_lengths[row] - 1, rows.lengths[row]
        count = _find_units(rows.unit_starts[row], separator, length, units)
        _choose_units(units, count, separator, rules.budgets[length], keys[row], rules)
        predictions.counts[row] = _replace(
            rows.token_ids[row],
            units,
            count,
            separator,
            keys[row],
            rules,
            predictions.positions[row],
            predictions.originals[row],
            outcomes,
        )


@compiled
def _find_units(unit_starts: NDArray[np.bool_], separator: int, length: int, units: _Units) -> int:
    count = 0
    for column in range(1, length - 1):
        if column == separator:
            continue
        if unit_starts[column] or count == 0:
            units.starts[count], units.sizes[count] = column, 0
            units.order[count], units.spans[count] = count, 0
            count += 1
        units.ends[count - 1] = column + 1
        units.sizes[count - 1] += 1
    return count


@compiled
def _choose_units(units: _Units, count: int, separator: int, budget: int, key: np.uint64, rules: MaskRules) -> None:
    """In random order, every unit that the budget still holds; a unit may bring the ones after it in its segment."""
    choice, left, taken, number = draw(key, CHOICE), count, 0, 0
    while left > 0 and taken < budget:
        place = below(draw(choice, left), left)
        first = units.order[place]
        left -= 1
        units.order[place], units.order[left] = units.order[left], first
        if units.spans[first] > 0:
            continue
        number += 1
        end = min(count, first + _span_length(draw(key, SPAN_LENGTH), number, rules))
        for unit_number in range(first, end):
            crosses = units.starts[first] < separator <= units.starts[unit_number]
            if crosses or units.spans[unit_number] > 0 or taken + units.sizes[unit_number] > budget:
                break
            units.spans[unit_number] = number
            taken += units.sizes[unit_number]
    if rules.fills_budget and taken < budget:
        for place in range(count - 1, -1, -1):
            unit_number = units.order[place]
            if units.spans[unit_number] == 0 and taken + units.sizes[unit_number] <= rules.max_predictions:
                units.spans[unit_number] = number + 1
                return


@compiled
def _span_length(key: np.uint64, number: int, rules: MaskRules) -> int:
    if len(rules.span_odds) == 1:
        return 1
    return 1 + int(np.searchsorted(rules.span_odds, unit(draw(key, number)), side="right"))


@compiled
def _replace(
    token_ids: NDArray[np.int32],
    units: _Units,
    count: int,
    separator: int,
    key: np.uint64,
    rules: MaskRules,
    positions: NDArray[np.int32],
    originals: NDArray[np.int32],
    outcomes: NDArray[np.int64],
) -> int:
    """Replace the tokens of the chosen units; returns how many there are."""
    outcome, replacement = draw(key, OUTCOME), draw(key, REPLACEMENT)
    found = 0
    for unit_number in range(count):
        if units.spans[unit_number] == 0:
            continue
        for column in range(units.starts[unit_number], units.ends[unit_number]):
            if column == separator:
                continue
            positions[found], originals[found] = column, token_ids[column]
            sharing = column
            if rules.replace_per == WORD:
                sharing = units.starts[unit_number]
            elif rules.replace_per == SPAN:
                sharing = units.spans[unit_number]
            fate = unit(draw(outcome, sharing))
            if fate < MASKED_SHARE:
                token_ids[column] = rules.mask_id
            elif fate >= MASKED_SHARE + KEPT_SHARE:
                choice = below(draw(replacement, column), len(rules.replacements))
                token_ids[column] = rules.replacements[choice]
            outcomes[_outcome(token_ids[column], originals[found], rules.mask_id)] += 1
            found += 1
    return found


@compiled
def _outcome(shown: int, original: int, mask_id: int) -> int:
    """What a reader of the row sees: a random token may be the original one."""
    if shown == mask_id:
        return MASKED
    return KEPT if shown == original else RANDOM


def dynamic_keys(seed: int, epochs: NDArray[np.integer], examples: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Keys [N] of rows that are masked when they are read: other ones in each epoch, for each example."""
    return _dynamic_keys(seed, np.asarray(epochs, np.int64), np.asarray(examples, np.int64))


@compiled
def _dynamic_keys(seed: int, epochs: NDArray[np.int64], examples: NDArray[np.int64]) -> NDArray[np.uint64]:
    keys = np.empty(len(examples), np.uint64)
    for row in range(len(examples)):
        keys[row] = draw(draw(draw(np.uint64(seed), 0), epochs[row]), examples[row])
    return keys
