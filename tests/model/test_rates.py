"""Rates from the durations of steps."""

import time

import pytest

from bertline.model.flops import StepWork
from bertline.model.rates import WINDOW, Rates, Stopwatch, with_prefix


def test_rates_are_sequences_tokens_and_operations_of_the_steps_noted() -> None:
    rates = Rates(StepWork(sequences=8, tokens=1024, flops=6_000_000_000), peak_flops=48e9)
    assert rates.row() == rates.facts() == {}
    rates.add(0.2)
    rates.add(0.8, steps=3)
    assert rates.row() == pytest.approx(
        {
            "rate/sequences_per_second": 32.0,
            "rate/tokens_per_second": 4096.0,
            "rate/model_flops_per_second": 24e9,
            "rate/share_of_peak": 0.5,
        }
    )
    assert rates.facts() == {"sequences/s": "32.0", "tokens/s": "4,096", "FLOP/s": "24G (50% of peak)"}


def test_rates_are_those_of_the_last_calls() -> None:
    rates = Rates(StepWork(1, 1, 1), 1.0)
    for seconds in [1.0] + [0.1] * WINDOW:
        rates.add(seconds)
    assert rates.row()["rate/sequences_per_second"] == pytest.approx(10.0)


def test_what_compiles_or_rests_is_not_timed() -> None:
    rates = Rates(StepWork(1, 1, 1), 1.0)
    watch = Stopwatch(rates)
    watch.dispatched(((1, 8, 16),))  # compiled
    time.sleep(0.3)
    watch.dispatched(((1, 8, 16),))
    watch.reported(1)
    assert rates.row() == {}
    time.sleep(0.3)  # a rest
    watch.restart()
    watch.dispatched(((1, 8, 16),))
    time.sleep(0.01)
    watch.reported(1)
    assert rates.row()["rate/sequences_per_second"] > 1 / 0.3


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (31.24e9, "31.2G"), (4e14, "400T"), (2e21, "2e+03E")],
)
def test_prefixes(value: float, shown: str) -> None:
    assert with_prefix(value) == shown
