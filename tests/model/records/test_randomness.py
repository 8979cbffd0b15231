"""Random numbers as hashes."""

import numpy as np
import pytest

from bertline.model.records.rows import below, draw, toss_coins, unit


def keys(count, seed=0):
    return [np.uint64(draw(np.uint64(number), seed)) for number in range(count)]


def test_hashes_are_stable():
    # These numbers make the records: a change of theirs changes every artifact.
    assert draw(np.uint64(draw(np.uint64(1), 3)), 4) == 15537199073334263167
    assert draw(np.uint64(draw(np.uint64(2), 3)), 5) == 16675047787367031382


def test_compiled_and_plain_functions_agree():
    key = np.uint64(draw(np.uint64(7), 1))
    with np.errstate(over="ignore"):
        assert draw.py_func(np.uint64(7), 1) == key
    assert unit.py_func(key) == unit(key)
    assert below.py_func(key, 1000) == below(key, 1000)


def test_numbers_are_even():
    units = np.array([unit(key) for key in keys(100_000, 1)])
    assert units.min() >= 0 and units.max() < 1
    assert abs(units.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 100_000)
    counts = np.bincount([below(key, 7) for key in keys(100_000, 2)], minlength=7)
    assert len(counts) == 7 and abs(counts - 100_000 / 7).max() < 5 * np.sqrt(100_000 / 7)


@pytest.mark.parametrize("tosses", [0, 1, 63, 64, 65, 1000])
def test_half_of_the_tosses_are_heads(tosses):
    tossed = np.array([toss_coins(key, tosses) for key in keys(3000, 3)])
    assert tossed.max() <= tosses
    assert abs(tossed.mean() - tosses / 2) <= 5 * np.sqrt(tosses / 4 / 3000)


@pytest.mark.parametrize("bound", [1, 2, 3, 1 << 20])
def test_below_stays_below(bound):
    assert [below(np.uint64(bits), bound) for bits in (0, (1 << 64) - 1)] == [0, bound - 1]
