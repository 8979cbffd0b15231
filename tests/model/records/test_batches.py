"""The order of examples."""

import numpy as np
import pytest

from bertline.model.records import reader
from bertline.model.records.reader import batch_epochs, batch_indices, host_share


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


BINS = (37, 5, 90, 61)  # sizes of length bins, ascending by width; with a batch of 8 every one has a rest


def bins_in(batch: np.ndarray) -> set[int]:
    return set((np.searchsorted(np.cumsum(BINS), batch, side="right")).tolist())


@pytest.mark.parametrize("batch_size", [1, 8, 64, 193, 500])
@pytest.mark.parametrize("sizes", [BINS, (0, 96, 0, 64), (3, 2), (192, 1)])
def test_every_example_of_every_bin_comes_once_an_epoch(sizes: tuple[int, ...], batch_size: int) -> None:
    total, epochs = sum(sizes), 5
    steps = range(-(-total * epochs // batch_size))
    drawn = np.concatenate([batch_indices(sizes, batch_size, seed=3, step=step) for step in steps])
    told = np.concatenate([batch_epochs(total, batch_size, step) for step in steps])
    for epoch in range(epochs):
        assert sorted(drawn[epoch * total : (epoch + 1) * total]) == list(range(total))
        assert (told[epoch * total : (epoch + 1) * total] == epoch).all()


def test_batches_are_of_one_bin_but_for_what_is_left_over() -> None:
    for epoch in range(8):  # 193 examples: batches straddle epochs at all places
        whole = range(-(-epoch * 193 // 8), (epoch + 1) * 193 // 8)
        within = [bins_in(batch_indices(BINS, 8, seed=1, step=step)) for step in whole]
        assert [within.count({number}) for number in range(4)] == [37 // 8, 0, 90 // 8, 61 // 8]
        assert sum(len(bins) > 1 for bins in within) <= 3


def test_what_straddles_epochs_is_taken_from_the_widest_bin_when_too_little_is_left_over() -> None:
    # Epoch 1 of 17 examples: 7 complete step 2, 8 are step 3, 2 begin step 4; of the second bin, one is left over.
    assert sorted(batch_indices((8, 9), 8, seed=1, step=3).tolist()) == list(range(8))


def test_batches_of_all_bins_are_mixed_afresh_in_each_epoch() -> None:
    narrow = [batch_indices((800, 800), 8, seed=1, step=step)[0] < 800 for step in range(400)]
    assert sum(narrow[:200]) == sum(narrow[200:]) == 100 and narrow[:200] != narrow[200:]
    changes = int(np.count_nonzero(np.diff(narrow[:200])))
    assert abs(changes - 100) < 5 * np.sqrt(199 / 4)


def test_one_bin_and_no_bins_are_the_same_batches() -> None:
    for step in range(7):
        assert batch_indices((10,), 4, 1, step).tolist() == batch_indices(10, 4, 1, step).tolist()


def test_batches_without_bins_stay_what_they_were() -> None:
    assert batch_indices(10, 4, seed=1, step=2).tolist() == [6, 3, 7, 2]
    assert batch_indices(1_000_000, 4, seed=12345, step=10_000_000).tolist() == [43031, 681441, 663772, 120477]


def test_a_late_step_among_millions_of_binned_examples_costs_one_order() -> None:
    sizes = (1_000_000, 500_000, 2_500_000)
    made = reader._epoch_order.cache_info().misses
    for step in range(10**9, 10**9 + 101):
        assert batch_indices(sizes, 256, seed=1, step=step).shape == (256,)
    assert reader._epoch_order.cache_info().misses == made + 1


@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_the_hosts_shares_are_the_batch_in_order(hosts: int) -> None:
    batch = batch_indices(BINS, 16, seed=1, step=3)
    shares = [batch[host_share(16, host, hosts)] for host in range(hosts)]
    assert {len(share) for share in shares} == {16 // hosts}
    assert np.concatenate(shares).tolist() == batch.tolist()


def test_shares_that_no_host_can_have_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 16 cannot be shared by 3 hosts; give a multiple of 3"):
        host_share(16, 0, 3)
    with pytest.raises(ValueError, match="host is 2, but the 2 hosts are numbered from 0"):
        host_share(16, 2, 2)
