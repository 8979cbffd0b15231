"""Texts and pairs of texts to the arrays that the model takes: ids, mask and segments of a fixed width."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer

NO_SECOND_SEGMENT = -1  # as a length of B: neither B nor the [SEP] after it


def encode_pairs(
    tokenizer: WordPieceTokenizer, texts_a: Sequence[str], texts_b: Sequence[str] | None, max_seq_length: int
) -> dict[str, NDArray[np.int32]]:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP], cut to max_seq_length as run_classifier does.

    Gives input_ids, input_mask and segment_ids, each int32 [len(texts_a), max_seq_length]. Too long a pair
    loses tokens from the end of the longer text, of B when both are equally long.
    """
    _require_usable(texts_a, texts_b, max_seq_length)
    ids, offsets = tokenizer.encode_lines([*texts_a, *(texts_b or ())])
    starts, lengths = offsets[:-1], np.diff(offsets)
    count = len(texts_a)
    if texts_b is None:
        lengths_a = np.minimum(lengths, max_seq_length - 2)
        starts_b, lengths_b = np.zeros_like(starts), np.full_like(lengths, NO_SECOND_SEGMENT)
    else:
        starts_b = starts[count:]
        lengths_a, lengths_b = truncated_lengths(lengths[:count], lengths[count:], max_seq_length - 3)
    return assemble_rows(ids, starts[:count], lengths_a, starts_b, lengths_b, max_seq_length, tokenizer.vocabulary)


def truncated_lengths(
    lengths_a: NDArray[np.int64], lengths_b: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is left of A and B when single tokens are taken from the longer one (a tie: B) until both fit.

    >>> truncated_lengths(np.array([9]), np.array([9]), room=5)
    (array([3]), array([2]))
    """
    kept_a = np.minimum(lengths_a, np.maximum((room + 1) // 2, room - lengths_b))
    return kept_a, np.minimum(lengths_b, room - kept_a)


def assemble_rows(
    ids: NDArray[np.integer],
    starts_a: NDArray[np.int64],
    lengths_a: NDArray[np.int64],
    starts_b: NDArray[np.int64],
    lengths_b: NDArray[np.int64],
    width: int,
    vocabulary: Vocabulary,
) -> dict[str, NDArray[np.int32]]:
    """Rows of [CLS] A [SEP] B [SEP] and zeros, gathered from spans of one flat array of ids.

    Starts and lengths are [N]; the result holds input_ids, input_mask, segment_ids, each int32 [N, width].
    """
    column = np.arange(width)  # [width]
    first_sep = (lengths_a + 1)[:, None]  # [N, 1]
    last_sep = (lengths_a + lengths_b + 2)[:, None]  # [N, 1]
    source = np.where(column < first_sep, starts_a[:, None] + column - 1, starts_b[:, None] + column - first_sep - 1)
    input_ids = np.zeros(source.shape, np.int32)
    if len(ids):
        input_ids = ids.take(source, mode="clip").astype(np.int32)
    used = column <= last_sep
    # Zeros, as in the original, whatever the id of [PAD]: the mask hides them.
    input_ids *= used
    input_ids[:, 0] = vocabulary.cls_id
    row = np.arange(len(input_ids))
    input_ids[row, lengths_a + 1] = input_ids[row, lengths_a + lengths_b + 2] = vocabulary.sep_id
    segment_ids = used & (column > first_sep)
    return {
        "input_ids": input_ids,
        "input_mask": used.astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
    }


def _require_usable(texts_a: Sequence[str], texts_b: Sequence[str] | None, max_seq_length: int) -> None:
    if max_seq_length < 5:
        raise ValueError(f"max_seq_length is {max_seq_length}; a pair with its special tokens needs at least 5")
    if texts_b is not None and len(texts_a) != len(texts_b):
        raise ValueError(f"{len(texts_a)} first texts, but {len(texts_b)} second ones; give one for each")
