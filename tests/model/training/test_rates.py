"""Rates from the durations of steps."""

import time

import numpy as np
import pytest

from bertline.model.training.flops import StepWork
from bertline.model.training.rates import WINDOW, Rates, Stopwatch, with_prefix


def batch(length: int = 16) -> dict[str, np.ndarray]:
    return {"input_ids": np.zeros((8, length), np.int32)}


def test_rates_are_sequences_tokens_and_operations_of_the_steps_noted() -> None:
    def work_of(batch) -> StepWork:
        return StepWork(8, 8 * batch["input_ids"].shape[1], 10**9)

    rates = Rates(work_of, peak_flops=8e9)
    assert rates.row() == rates.facts() == {}
    rates.add(0.2, batch(208))
    rates.add(0.8, batch(112), steps=3)
    assert rates.row() == pytest.approx(
        {
            "rate/sequences_per_second": 32.0,
            "rate/tokens_per_second": 8 * (208 + 3 * 112.0),
            "rate/model_flops_per_second": 4e9,
            "rate/share_of_peak": 0.5,
        }
    )
    assert rates.facts() == {"steps/s": "4", "sequences/s": "32.0", "tokens/s": "4,352", "FLOP/s": "4G (50% of peak)"}


def test_rates_are_those_of_the_last_calls() -> None:
    rates = Rates(lambda batch: StepWork(1, 1, 1), 1.0)
    for seconds in [1.0] + [0.1] * WINDOW:
        rates.add(seconds, batch())
    assert rates.row()["rate/sequences_per_second"] == pytest.approx(10.0)


def test_what_compiles_or_rests_is_not_timed() -> None:
    rates = Rates(lambda batch: StepWork(1, 1, 1), 1.0)
    watch = Stopwatch(rates)
    watch.dispatched(((1, 8, 16),))  # compiled
    time.sleep(0.3)
    watch.dispatched(((1, 8, 16),))
    watch.reported(batch(), 1)
    assert rates.row() == {}
    time.sleep(0.3)  # a rest
    watch.restart()
    watch.dispatched(((1, 8, 16),))
    time.sleep(0.01)
    watch.reported(batch(), 1)
    assert rates.row()["rate/sequences_per_second"] > 1 / 0.3


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (31.24e9, "31.2G"), (4e14, "400T"), (2e21, "2e+03E")],
)
def test_prefixes(value: float, shown: str) -> None:
    assert with_prefix(value) == shown
