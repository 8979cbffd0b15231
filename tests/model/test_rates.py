"""Rates from the durations of steps."""

import pytest

from bertline.model.flops import StepWork
from bertline.model.rates import WINDOW, Rates, with_prefix


def test_the_first_step_compiles_and_does_not_count() -> None:
    rates = Rates(StepWork(sequences=8, tokens=1024, flops=6_000_000_000), peak_flops=48e9)
    assert rates.row() == rates.facts() == {}
    rates.add(30.0)
    assert rates.row() == {}
    for seconds in (0.2, 0.3):
        rates.add(seconds)
    assert rates.row() == pytest.approx(
        {
            "rate/sequences_per_second": 32.0,
            "rate/tokens_per_second": 4096.0,
            "rate/model_flops_per_second": 24e9,
            "rate/share_of_peak": 0.5,
        }
    )
    assert rates.facts() == {"sequences/s": "32.0", "tokens/s": "4,096", "FLOP/s": "24G (50% of peak)"}


def test_rates_are_those_of_the_last_steps() -> None:
    rates = Rates(StepWork(1, 1, 1), 1.0)
    for seconds in [1.0] * (WINDOW + 1) + [0.1] * WINDOW:
        rates.add(seconds)
    assert rates.row()["rate/sequences_per_second"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (31.24e9, "31.2G"), (4e14, "400T"), (2e21, "2e+03E")],
)
def test_prefixes(value: float, shown: str) -> None:
    assert with_prefix(value) == shown
