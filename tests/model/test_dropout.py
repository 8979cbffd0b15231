"""Dropout masks: their share, their independence, and that the step alone decides them."""

import math

import numpy as np
import pytest

from bertline.model.bert import Dropout

SHAPE = (200, 500)
RATE = 26 / 256  # what 0.1 is in bytes


def dropped(
    seed: int, step: int, place: int = 1, examples: np.ndarray | None = None, x: np.ndarray | None = None
) -> np.ndarray:
    x = np.ones(SHAPE, np.float32) if x is None else x
    dropout = Dropout(seed, np.int64(step), np.arange(len(x)) if examples is None else examples)
    return np.asarray(dropout(x, 0.1, place)) == 0.0


def sigmas(found: float, expected: float, count: int) -> float:
    return abs(found - expected) / math.sqrt(expected * (1 - expected) / count)


def test_share_and_scale() -> None:
    kept = np.asarray(Dropout(1, np.int64(0), np.arange(200))(np.ones(SHAPE, np.float32), 0.1, 1))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / (1 - RATE))}
    assert sigmas(float(np.mean(kept == 0)), RATE, kept.size) < 5


def test_rate_zero_changes_nothing() -> None:
    x = np.ones((2, 3), np.float32)
    assert Dropout(1, np.int64(0), np.arange(2))(x, 0.0, 1) is x


def test_same_place_same_mask() -> None:
    assert np.array_equal(dropped(1, 5, place=2), dropped(1, 5, place=2))


@pytest.mark.parametrize("shape", [(8, 12), (8 * 3, 5), (8, 2, 3, 7)])
def test_an_example_s_mask_is_the_same_in_every_part_of_a_batch(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    whole = dropped(1, 5, examples=np.arange(8), x=x).reshape(8, -1)
    part = dropped(1, 5, examples=np.arange(1, 8, 2), x=x[: len(x) // 2]).reshape(4, -1)
    assert np.array_equal(part, whole[1::2])


def test_masks_of_seeds_steps_places_and_neighbours_are_independent() -> None:
    first = dropped(1, 0)
    others = {"seed": dropped(2, 0), "step": dropped(1, 1), "place": dropped(1, 0, place=2)}
    others |= {"far step": dropped(1, 10**6)}
    others |= {f"right {n}": np.roll(first, n, axis=1) for n in (1, 2, 3, 4)} | {"below": np.roll(first, 1, axis=0)}
    for name, other in others.items():
        assert sigmas(float(np.mean(first & other)), RATE**2, first.size) < 5, name
