"""Training rows in their compact form, the seven features that they stand for, and the random numbers that make them.

A row is [CLS] A [SEP] B [SEP], or [CLS] A [SEP], and zeros; everything else of it follows from two lengths.

Random numbers are hashes of what they are for, (seed, document, pass, step, purpose), so that no order of work can
change them: streams of a generator would depend on how many were drawn before, and so on the number of workers and the
size of their batches. Results are made np.int64: compiled, int() keeps a number unsigned, and unsigned with signed
gives a float.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.encode import NO_SECOND_SEGMENT
from bertline.tokenizer.wordpiece import Vocabulary

# Feature -> its type in a batch and its width; integers are stored as int64, as tf.train.Example has it.
ADVICE = 'run "bertline prepare"'  # how messages about records end
FEATURES: dict[str, tuple[type[np.int32] | type[np.float32], str]] = {
    "input_ids": (np.int32, "max_seq_length"),  # [CLS] A [SEP] B [SEP], then zeros
    "input_mask": (np.int32, "max_seq_length"),  # 1 for tokens, 0 for padding
    "segment_ids": (np.int32, "max_seq_length"),  # 0 up to the first [SEP], 1 for B and its [SEP]
    "masked_lm_positions": (np.int32, "max_predictions_per_seq"),  # ascending, then zeros
    "masked_lm_ids": (np.int32, "max_predictions_per_seq"),  # the tokens that stood there
    "masked_lm_weights": (np.float32, "max_predictions_per_seq"),  # 1.0 for predictions, 0.0 for filling
    "next_sentence_labels": (np.int32, "one"),  # 1 when B is a random text
}

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: steps of SplitMix64 (Steele, Lea, Flood 2014)
_MULTIPLIER_1, _MULTIPLIER_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _11, _27, _30, _31, _32 = (np.uint64(number) for number in (1, 11, 27, 30, 31, 32))
# Counting the ones of a word in parallel (Warren, Hacker's Delight, 5-1).
_TWOS, _FOURS, _EIGHTS, _SUM = (
    np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)


class Rows(NamedTuple):
    """N rows of W tokens, none of them masked."""

    token_ids: NDArray[np.int32]  # [N, W]
    lengths: NDArray[np.int32]  # [N], tokens in use
    first_lengths: NDArray[np.int32]  # [N], tokens of [CLS] A [SEP]
    labels: NDArray[np.uint8]  # [N], 1 when B is a random text, or A and B are swapped
    unit_starts: NDArray[np.bool_]  # [N, W], True where a word begins, or what else is masked as a whole

    def take(self, indices: "NDArray[np.integer] | slice") -> "Rows":
        """The rows at `indices`."""
        return Rows._make(column[indices] for column in self)


class Predictions(NamedTuple):
    """What is to be predicted in N rows: at most P tokens of each, in order, then zeros."""

    positions: NDArray[np.int32]  # [N, P]
    originals: NDArray[np.int32]  # [N, P], the tokens that stood there
    counts: NDArray[np.int32]  # [N]


class Spans(NamedTuple):
    """N pairs of spans of one flat array of ids; each array is [N]."""

    starts_a: NDArray[np.int64]
    lengths_a: NDArray[np.int64]
    starts_b: NDArray[np.int64]
    lengths_b: NDArray[np.int64]  # NO_SECOND_SEGMENT where there is only A


def assemble(
    ids: NDArray[np.integer],
    continues: NDArray[np.bool_],
    spans: Spans,
    labels: NDArray[np.uint8],
    width: int,
    vocabulary: Vocabulary,
    *,
    join_segments: bool = False,
) -> Rows:
    """The rows of `spans`; `continues` [len(ids)] is True for a piece that belongs to the word before it.

    A segment's first piece opens a word, also when the word's head was cut away; with `join_segments`, as in
    the original, B's first piece may belong to A's last word.
    """
    count = len(labels)
    rows = Rows(
        np.zeros((count, width), np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        labels,
        np.zeros((count, width), np.bool_),
    )
    _assemble(ids, continues, spans, vocabulary.cls_id, vocabulary.sep_id, join_segments, rows)
    return rows


def features(rows: Rows, predictions: Predictions) -> dict[str, NDArray[Any]]:
    """The seven FEATURES of N rows: [N, W], [N, P], and [N, 1] next_sentence_labels."""
    column = np.arange(rows.token_ids.shape[1], dtype=np.int32)
    used = column < rows.lengths[:, None]
    rank = np.arange(predictions.positions.shape[1], dtype=np.int32)
    return {
        "input_ids": rows.token_ids,
        "input_mask": used.astype(np.int32),
        "segment_ids": (used & (column >= rows.first_lengths[:, None])).astype(np.int32),
        "masked_lm_positions": predictions.positions,
        "masked_lm_ids": predictions.originals,
        "masked_lm_weights": (rank < predictions.counts[:, None]).astype(np.float32),
        "next_sentence_labels": rows.labels.astype(np.int32)[:, None],
    }


@compiled
def _assemble(
    ids: NDArray[np.integer],
    continues: NDArray[np.bool_],
    spans: Spans,
    cls_id: int,
    sep_id: int,
    join_segments: bool,
    rows: Rows,
) -> None:
    for row in range(len(rows.labels)):
        tokens, starts = rows.token_ids[row], rows.unit_starts[row]
        tokens[0] = cls_id
        end = 1
        for place in range(spans.starts_a[row], spans.starts_a[row] + spans.lengths_a[row]):
            tokens[end], starts[end] = ids[place], not continues[place]
            end += 1
        starts[1] = True
        tokens[end] = sep_id
        end += 1
        rows.first_lengths[row] = end
        if spans.lengths_b[row] != NO_SECOND_SEGMENT:
            for place in range(spans.starts_b[row], spans.starts_b[row] + spans.lengths_b[row]):
                tokens[end], starts[end] = ids[place], not continues[place]
                end += 1
            if not join_segments:
                starts[rows.first_lengths[row]] = True
            tokens[end] = sep_id
            end += 1
        rows.lengths[row] = end


@compiled
def draw(key: np.uint64, counter: int) -> np.uint64:
    """64 uniform bits for a key and a counter of at least 0; independent for other keys and counters."""
    return _mix(np.uint64(key) + (np.uint64(counter) + _ONE) * GOLDEN)


@compiled
def unit(bits: np.uint64) -> float:
    """A uniform number in [0, 1)."""
    return float(bits >> _11) * 2.0**-53


@compiled
def below(bits: np.uint64, bound: int) -> int:
    """A uniform integer in [0, bound); bounds are 1..2^32."""
    return np.int64(((bits >> _32) * np.uint64(bound)) >> _32)  # type: ignore[return-value]


@compiled
def toss_coins(bits: np.uint64, tosses: int) -> int:
    """How many of `tosses` fair coins fall heads: the ones among that many random bits."""
    count = 0
    word = 0
    while tosses > 0:
        fresh = draw(bits, word)
        if tosses < 64:
            fresh &= (_ONE << np.uint64(tosses)) - _ONE
        count += _ones(fresh)
        tosses -= 64
        word += 1
    return count


@compiled
def _mix(bits: np.uint64) -> np.uint64:
    """SplitMix64's output function: a bijection in which every input bit flips every output bit half the time."""
    bits = (bits ^ (bits >> _30)) * _MULTIPLIER_1
    bits = (bits ^ (bits >> _27)) * _MULTIPLIER_2
    return bits ^ (bits >> _31)


@compiled
def _ones(bits: np.uint64) -> int:
    bits -= (bits >> _ONE) & _TWOS
    bits = (bits & _FOURS) + ((bits >> np.uint64(2)) & _FOURS)
    bits = (bits + (bits >> np.uint64(4))) & _EIGHTS
    return np.int64((bits * _SUM) >> np.uint64(56))  # type: ignore[return-value]
