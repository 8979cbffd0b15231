"""A text's vector from its tokens' vectors."""

import dataclasses

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import encoder_shapes
from bertline.model.features.pooling import embed_texts, normalize_lengths, pool
from bertline.model.training.checkpoint import Checkpoint

SEQUENCE = np.array([[[1.0, -2.0], [3.0, -4.0], [100.0, 100.0]], [[-1.0, 0.0], [5.0, 6.0], [-3.0, 9.0]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int32)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2.0, -3.0], [1 / 3, 5.0]]),
        ("max", [[3.0, -2.0], [5.0, 9.0]]),
        ("cls", [[1.0, -2.0], [-1.0, 0.0]]),
    ],
)
def test_padding_does_not_count(pooling: str, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(pool(SEQUENCE, MASK, pooling), expected, rtol=1e-6)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match='pooling is "last"; known: mean, cls, max'):
        pool(SEQUENCE, MASK, "last")


def test_unit_vectors_have_length_1_and_zero_stays_zero() -> None:
    assert normalize_lengths(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_do_not_depend_on_padding(toy, toy_batch, pooling: str) -> None:
    shape = dataclasses.replace(toy, hidden_act="gelu_erf")
    checkpoint = Checkpoint(shape, initial_weights(encoder_shapes(shape), 0.2, 1), b"", True, {"step": 0})
    batch = {name: toy_batch(4)[name] for name in ("input_ids", "input_mask", "segment_ids")}
    wider = {name: np.pad(array, ((0, 0), (0, 9))) for name, array in batch.items()}
    vectors = embed_texts(checkpoint, batch, pooling)
    assert (vectors.shape, vectors.dtype) == ((4, 32), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.ones(4), atol=1e-6)
    np.testing.assert_allclose(embed_texts(checkpoint, wider, pooling), vectors, atol=1e-6)
