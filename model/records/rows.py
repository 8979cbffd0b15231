"""Training rows in their compact form, and the seven features that they stand for.

A row is [CLS] A [SEP] B [SEP], or [CLS] A [SEP], and zeros; everything else of it follows from two lengths.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.encode import NO_SECOND_SEGMENT
from bertline.tokenizer.wordpiece import Vocabulary

# Feature -> its type in a batch and its width; integers are stored as int64, as tf.train.Example has it.
FEATURES: dict[str, tuple[type[np.int32] | type[np.float32], str]] = {
    "input_ids": (np.int32, "max_seq_length"),  # [CLS] A [SEP] B [SEP], then zeros
    "input_mask": (np.int32, "max_seq_length"),  # 1 for tokens, 0 for padding
    "segment_ids": (np.int32, "max_seq_length"),  # 0 up to the first [SEP], 1 for B and its [SEP]
    "masked_lm_positions": (np.int32, "max_predictions_per_seq"),  # ascending, then zeros
    "masked_lm_ids": (np.int32, "max_predictions_per_seq"),  # the tokens that stood there
    "masked_lm_weights": (np.float32, "max_predictions_per_seq"),  # 1.0 for predictions, 0.0 for filling
    "next_sentence_labels": (np.int32, "one"),  # 1 when B is a random text
}


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
