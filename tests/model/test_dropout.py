"""Dropout masks: their share, their independence, and that the step alone decides them."""

import math

import numpy as np

from bertline.model.dropout import Dropout

SHAPE = (200, 500)


def mask(seed: int, step: int, draw: int = 1, rate: float = 0.1) -> np.ndarray:
    dropout = Dropout(seed, np.int64(step))
    for _ in range(draw):
        dropped = np.asarray(dropout(np.ones(SHAPE, np.float32), rate))
    return dropped == 0.0


def sigmas(found: float, expected: float, count: int) -> float:
    return abs(found - expected) / math.sqrt(expected * (1 - expected) / count)


def test_share_and_scale() -> None:
    kept = np.asarray(Dropout(1, np.int64(0))(np.ones(SHAPE, np.float32), 0.1))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.9)}
    assert sigmas(float(np.mean(kept == 0)), 0.1, kept.size) < 5


def test_rate_zero_changes_nothing() -> None:
    x = np.ones((2, 3), np.float32)
    assert Dropout(1, np.int64(0))(x, 0.0) is x


def test_same_place_same_mask() -> None:
    assert np.array_equal(mask(1, 5, draw=2), mask(1, 5, draw=2))


def test_masks_of_seeds_steps_draws_and_neighbours_are_independent() -> None:
    first = mask(1, 0)
    others = {"seed": mask(2, 0), "step": mask(1, 1), "draw": mask(1, 0, draw=2), "far step": mask(1, 10**6)}
    others |= {"right": np.roll(first, 1, axis=1), "below": np.roll(first, 1, axis=0)}
    for name, other in others.items():
        assert sigmas(float(np.mean(first & other)), 0.01, first.size) < 5, name
