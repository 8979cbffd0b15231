"""The order of examples."""

import numpy as np
import pytest

from bertline.model.batches import batch_epochs, batch_indices


def test_every_example_comes_once_an_epoch_and_batches_straddle_epochs() -> None:
    drawn = np.concatenate([batch_indices(10, 4, seed=1, step=step) for step in range(5)])
    assert sorted(drawn[:10]) == list(range(10))
    assert sorted(drawn[10:]) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    before = batch_indices(10, 4, seed=1, step=7)
    for step in range(7):
        batch_indices(10, 4, seed=1, step=step)
    assert np.array_equal(batch_indices(10, 4, seed=1, step=7), before)


def test_seeds_differ() -> None:
    assert batch_indices(100, 8, 1, 0).tolist() != batch_indices(100, 8, 2, 0).tolist()


def test_a_batch_may_hold_more_than_all_examples() -> None:
    assert sorted(batch_indices(3, 7, seed=1, step=0).tolist()[:6]) == [0, 0, 1, 1, 2, 2]


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        batch_indices(0, 4, 1, 0)


def test_epochs_count_whole_passes():
    assert [batch_epochs(5, 4, step).tolist() for step in range(4)] == [
        [0, 0, 0, 0],
        [0, 1, 1, 1],
        [1, 1, 2, 2],
        [2, 2, 2, 3],
    ]
