"""Instances to training rows: assembled inputs, words chosen for prediction, and what stands in their place.

Follows google-research/bert's create_masked_lm_predictions. Unlike there, a word never reaches across a
[SEP], and a token is never replaced by a special or an [unused] one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.components.hashing import Bits, below, draw, unit
from bertline.components.instances import Instances
from bertline.tokenizer.encode import assemble_rows
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary

MASKED_SHARE, KEPT_SHARE = 0.8, 0.1  # Devlin et al. 2018, 3.1; the rest is replaced by a random token
CONTINUATION = "##"

# What a random number of a row decides.
WORD_ORDER, OUTCOME, REPLACEMENT = range(3)


@dataclass(frozen=True)
class MaskRules:
    """What masking needs to know of a vocabulary and a configuration."""

    vocabulary: Vocabulary
    continues_word: NDArray[np.bool_]  # [vocabulary], True for pieces that belong to the word before them
    replacements: NDArray[np.int32]  # ids that may replace a token at random
    budgets: NDArray[np.int64]  # [max_seq_length + 1], tokens to predict in a sequence of so many tokens
    max_predictions_per_seq: int

    @property
    def max_seq_length(self) -> int:
        """Width of the rows."""
        return len(self.budgets) - 1


def mask_rules(
    vocabulary: Vocabulary,
    *,
    max_seq_length: int,
    max_predictions_per_seq: int,
    masked_lm_prob: float,
    do_whole_word_mask: bool,
) -> MaskRules:
    """The rules for a configuration. Raises ValueError for a vocabulary of nothing but special tokens."""
    replacements = [number for number, token in enumerate(vocabulary.tokens) if not _is_reserved(token)]
    if not replacements:
        raise ValueError("the vocabulary holds special tokens only; give one with word pieces")
    continues_word = np.array([token.startswith(CONTINUATION) for token in vocabulary.tokens])
    # Python's and NumPy's rounding of halves to even, which the original uses.
    shares = np.rint(np.arange(max_seq_length + 1) * masked_lm_prob).astype(np.int64)
    return MaskRules(
        vocabulary,
        continues_word if do_whole_word_mask else np.zeros_like(continues_word),
        np.array(replacements, np.int32),
        np.minimum(max_predictions_per_seq, np.maximum(1, shares)),
        max_predictions_per_seq,
    )


def masked_rows(ids: NDArray[np.integer], instances: Instances, rules: MaskRules) -> dict[str, NDArray[Any]]:
    """The seven features of the instances, whose spans lie in `ids`.

    [N, W] input_ids, input_mask, segment_ids; [N, P] masked_lm_positions, masked_lm_ids, masked_lm_weights;
    [N, 1] next_sentence_labels.
    """
    rows = assemble_rows(
        ids,
        instances.starts_a,
        instances.lengths_a,
        instances.starts_b,
        instances.lengths_b,
        rules.max_seq_length,
        rules.vocabulary,
    )
    word_lengths = _word_lengths(rows["input_ids"], instances, rules)
    budgets = rules.budgets[instances.lengths_a + instances.lengths_b + 3]
    chosen = _choose_words(word_lengths, budgets, instances.keys)
    row, column = np.nonzero(_spread(chosen, word_lengths))
    originals = rows["input_ids"][row, column]
    rows["input_ids"][row, column] = _replaced(originals, column, instances.keys[row], rules)
    return {
        **rows,
        **_predictions(row, column, originals, len(instances), rules.max_predictions_per_seq),
        "next_sentence_labels": instances.is_random_next.astype(np.int32)[:, None],
    }


def _word_lengths(input_ids: NDArray[np.int32], instances: Instances, rules: MaskRules) -> NDArray[np.int16]:
    """Tokens of the word that begins at each place; 0 where none begins and at special tokens and padding."""
    column = np.arange(input_ids.shape[1], dtype=np.int16)  # [W]
    first_sep = (instances.lengths_a + 1).astype(np.int16)[:, None]  # [N, 1]
    last_sep = (instances.lengths_a + instances.lengths_b + 2).astype(np.int16)[:, None]  # [N, 1]
    is_text = (column > 0) & (column != first_sep) & (column < last_sep)
    # A segment's first piece opens a word, also when its head was cut away.
    begins = is_text & (~rules.continues_word[input_ids] | (column == 1) | (column == first_sep + 1))
    bounds = np.flatnonzero(begins | ~is_text)
    lengths = np.zeros(input_ids.size, np.int16)
    lengths[bounds] = np.diff(bounds, append=input_ids.size)
    return lengths.reshape(input_ids.shape) * begins


def _choose_words(word_lengths: NDArray[np.int16], budgets: NDArray[np.int64], keys: Bits) -> NDArray[np.bool_]:
    """The beginnings [N, W] of the words to predict: in random order, every word that the budget still holds."""
    order = _shuffled_columns(word_lengths > 0, keys)
    words = np.count_nonzero(word_lengths, axis=1)
    chosen = np.zeros(word_lengths.shape, bool)
    active = np.arange(len(words))
    left = budgets
    for rank in range(int(words.max(initial=0))):
        going_on = (left > 0) & (words[active] > rank)
        active, left = active[going_on], left[going_on]
        column = order[rank, active]
        length = word_lengths[active, column]
        fits = length <= left
        chosen[active, column] = fits
        left = left - length * fits
    return chosen


def _shuffled_columns(candidates: NDArray[np.bool_], keys: Bits) -> NDArray[np.int16]:
    """The candidates' columns in random order, then all others: [W, N], a column for each row."""
    column = np.arange(candidates.shape[1], dtype=np.uint32)
    low_bits = np.uint32((1 << (candidates.shape[1] - 1).bit_length()) - 1)
    # Sorting hashes that carry their column in their lowest bits is faster than argsort.
    hashes = (draw(draw(keys, WORD_ORDER)[:, None], column) >> np.uint64(33)).astype(np.uint32)
    hashes = hashes & ~low_bits | column | (~candidates).astype(np.uint32) << np.uint32(31)
    hashes.sort(axis=1)
    return np.ascontiguousarray((hashes & low_bits).astype(np.int16).T)


def _spread(chosen: NDArray[np.bool_], word_lengths: NDArray[np.int16]) -> NDArray[np.bool_]:
    """All tokens of the words that begin at the chosen places."""
    beginnings = np.flatnonzero(chosen)
    lengths = word_lengths.ravel()[beginnings].astype(np.int64)
    spread = np.zeros(chosen.size, bool)
    first = np.cumsum(lengths) - lengths
    spread[np.repeat(beginnings - first, lengths) + np.arange(lengths.sum())] = True
    return spread.reshape(chosen.shape)


def _replaced(
    originals: NDArray[np.int32], columns: NDArray[np.int64], keys: Bits, rules: MaskRules
) -> NDArray[np.int32]:
    """What stands in place of each predicted token: [MASK], the token itself, or a random one."""
    fate = unit(draw(keys, columns, OUTCOME))
    choice = below(draw(keys, columns, REPLACEMENT), len(rules.replacements))
    kept_or_random = np.where(fate < MASKED_SHARE + KEPT_SHARE, originals, rules.replacements[choice])
    return np.where(fate < MASKED_SHARE, rules.vocabulary.mask_id, kept_or_random).astype(np.int32)


def _predictions(
    row: NDArray[np.int64], column: NDArray[np.int64], labels: NDArray[np.int32], rows: int, width: int
) -> dict[str, NDArray[Any]]:
    """Positions, ids and weights [rows, width] of the predicted tokens, in order, filled up with zeros."""
    counts = np.bincount(row, minlength=rows)
    rank = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    positions = np.zeros((rows, width), np.int32)
    ids = np.zeros((rows, width), np.int32)
    positions[row, rank], ids[row, rank] = column, labels
    weights = (np.arange(width) < counts[:, None]).astype(np.float32)
    return {"masked_lm_positions": positions, "masked_lm_ids": ids, "masked_lm_weights": weights}


def _is_reserved(token: str) -> bool:
    return not token or token in SPECIAL_TOKENS or token.startswith("[unused")
