"""One vector for a text, from the vectors of its tokens."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bertline.model.training.checkpoint import Checkpoint

POOLINGS = ("mean", "cls", "max")
# sentence-transformers' bounds against a division by zero.
SMALLEST_COUNT, SMALLEST_LENGTH = 1e-9, 1e-12


def embed_texts(
    checkpoint: Checkpoint, batch: Mapping[str, np.ndarray], pooling: str = "mean", normalize: bool = True
) -> np.ndarray:
    """The vectors of a batch of texts, float32 [batch, hidden]; with `normalize` each of length 1.

    `batch` holds input_ids, input_mask and segment_ids, int32 [batch, length]. Raises ValueError for an unknown
    pooling.
    """
    from bertline.model.heads import encode_batch

    sequence = np.asarray(encode_batch(checkpoint.weights, checkpoint.bert_config, batch).sequence)
    vectors = pool(sequence, batch["input_mask"], pooling)
    return normalize_lengths(vectors) if normalize else vectors


def pool(sequence: np.ndarray, input_mask: np.ndarray, pooling: str) -> np.ndarray:
    """The mean, the maximum, or the first of each text's vectors: [batch, length, hidden] -> [batch, hidden].

    [CLS] and [SEP] count, padding does not.
    """
    used = input_mask[:, :, None].astype(sequence.dtype)  # [batch, length, 1]
    if pooling == "mean":
        return (sequence * used).sum(axis=1) / np.maximum(used.sum(axis=1), SMALLEST_COUNT)
    if pooling == "max":
        return np.where(used > 0, sequence, -np.inf).max(axis=1)
    if pooling == "cls":
        return sequence[:, 0]
    raise ValueError(f'pooling is "{pooling}"; known: {", ".join(POOLINGS)}')


def pool_tokens(vectors: NDArray[np.float32], begins: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    """The same for texts whose tokens follow each other, from each of `begins` on: [tokens, ...] -> [texts, ...]."""
    if pooling == "mean":
        return average(vectors, begins)
    if pooling == "max":
        return np.maximum.reduceat(vectors, begins, axis=0)
    if pooling == "cls":
        return vectors[begins]
    raise ValueError(f'pooling is "{pooling}"; known: {", ".join(POOLINGS)}')


def average(vectors: NDArray[np.float32], firsts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Means from each of `firsts` up to the next one, or to the end; a vector itself where the next is the same."""
    counts = np.maximum(np.diff(firsts, append=len(vectors)), 1)
    sums = np.add.reduceat(vectors, firsts, axis=0, dtype=np.float64)
    return (sums / counts[:, None, None]).astype(np.float32)


def normalize_lengths(vectors: np.ndarray) -> np.ndarray:
    """The vectors, each divided by its length; [..., hidden]."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SMALLEST_LENGTH)
