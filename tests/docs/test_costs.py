"""The tables of the pages about costs and scaling are what benchmarks/costs.py prints, and its arithmetic is right."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def costs() -> Iterator[dict[str, Any]]:
    """What the script defines, with the modules beside it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield runpy.run_path(str(ROOT / "benchmarks" / "costs.py"))
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("page", ["costs", "scaling"])
def test_a_pages_tables_are_what_the_script_prints(page: str, costs: dict[str, Any]) -> None:
    """Else: python benchmarks/costs.py PAGE --write."""
    text = (ROOT / "docs" / "guides" / f"{page}.md").read_text(encoding="utf-8")
    assert costs["fill"](text, costs["PAGES"][page]()) == text


def test_a_training_takes_its_sequences_at_the_published_rates(costs: dict[str, Any]) -> None:
    seconds = 900_000 * 256 / 485.6 + 100_000 * 256 / 96.5
    assert costs["training_hours"]("paper", "large", "gpu-a100") == pytest.approx(1.05 * seconds / 3600)
    twice = costs["training_hours"]("paper", "large", "tpu-v5e") / costs["training_hours"]("paper", "large", "gpu-a100")
    assert twice == pytest.approx(312 / 197)


def test_data_steps_take_the_text_at_the_measured_rates(costs: dict[str, Any]) -> None:
    steps = {step.name: step for step in costs["data_steps"](costs["Corpus"]("any", 20, 24), "budget")}
    assert steps["ingest"].hours == pytest.approx(24_000 / 2.0 / 3600)  # its one reader
    assert steps["prepare_512"].hours == pytest.approx(20_000 / 11.3 / 3600 / 16)
    assert steps["prepare_512"].objects == 6 * 2385  # 64, 96, 128, 256, 384 and 512; 8 MiB a shard
    assert steps["prepare_512"].writes == 2 * steps["prepare_512"].objects + 2385
    assert costs["request_dollars"](costs["Corpus"]("any", 1), "paper") < 0.02


def test_every_figure_says_where_it_is_from(costs: dict[str, Any]) -> None:
    figures = {**costs["PRICES"], **costs["RATES"], **costs["MEASURED"]}
    assert all(each.source for each in figures.values())
    assert costs["number"](0.0213) == "0.021" and costs["number"](3.14) == "3.1" and costs["number"](1234.5) == "1,234"


def test_a_page_with_other_tables_is_refused(costs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has 0 tables, and there are 1"):
        costs["fill"]("no table\n", ["| a |"])
