"""Measurements as rows, and rows as tables: for a terminal, as Markdown, as JSON."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from measuring import Cost, Round, median, ratio
from rich.console import Console
from rich.table import Table

COLUMNS = ("claim", "bertline", "original or other", "ratio", "target")


@dataclass(frozen=True)
class Result:
    """A row of a table, and the measurements behind it."""

    claim: str
    ours: str
    other: str = ""
    ratio: float | None = None
    target: str = ""
    measured: list[Any] = field(default_factory=list)

    def cells(self) -> list[str]:
        """In the order of COLUMNS."""
        digits = 2 if self.ratio is not None and self.ratio < 10 else 1
        shown = "" if self.ratio is None else f"{self.ratio:.{digits}f}"
        return [self.claim, self.ours, self.other, shown, self.target]


@dataclass(frozen=True)
class Section:
    """A table, and what it shows."""

    title: str
    results: list[Result]


def compared(
    claim: str, megabytes: float, rounds: list[Round], sides: tuple[str, str], what: str, target: str = ""
) -> Result:
    """The medians of our side and another of one kind of seconds, and of the rounds' ratios, other to ours."""
    side, other = sides

    def shown(name: str) -> str:
        seconds = median(rounds, name, what)
        return f"{seconds:.2f} s, {megabytes / seconds:.2f} MB/s; {memory_of([costs[name] for costs in rounds])}"

    taken = [{name: asdict(costs[name]) for name in sides} for costs in rounds]
    return Result(claim, shown(side), shown(other), ratio(rounds, other, side, what), target, taken)


def faster(claim: str, rounds: list[dict[str, float]], sides: tuple[str, str], unit: str, target: str = "") -> Result:
    """The medians of two speeds in `unit` a second, and of the rounds' ratios, ours to the other's."""
    side, other = sides

    def shown(name: str) -> str:
        speed = statistics.median(speeds[name] for speeds in rounds)
        return f"{speed:,.0f} {unit}/s" if speed >= 1000 else f"{speed:.1f} {unit}/s"

    times = statistics.median(speeds[side] / speeds[other] for speeds in rounds)
    return Result(claim, shown(side), shown(other), times, target, [dict(speeds) for speeds in rounds])


def memory_of(costs: list[Cost]) -> str:
    """Medians of the largest process and of all together: "251 MB, all 702 MB"."""
    peak, total = (statistics.median(vars(cost)[name] for cost in costs) for name in ("peak_rss_mb", "total_rss_mb"))
    return f"{peak:.0f} MB" if total < 1.1 * peak else f"{peak:.0f} MB, all {total:.0f} MB"


def machine() -> dict[str, Any]:
    """Where this runs, and how busy it is."""
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": named[0].partition(":")[2].strip() if named else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def print_tables(sections: Mapping[str, Section]) -> None:
    """For a terminal."""
    for section in sections.values():
        table = Table(*COLUMNS, title=section.title, title_justify="left")
        for result in section.results:
            table.add_row(*result.cells())
        Console().print(table)


def print_markdown(sections: Mapping[str, Section], settings: Mapping[str, Any]) -> None:
    """The same tables as Markdown, the settings before them."""
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + ".")
    for name, section in sections.items():
        print(f"\n## {name}\n\n{section.title}\n")
        print_rows(COLUMNS, [result.cells() for result in section.results])


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown."""
    for cells in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(cells)} |")
