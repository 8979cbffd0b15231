"""Tables for the terminal: an artifact's counts, and a run's steps and scores."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from bertline.components.store.artifacts import Artifact

if TYPE_CHECKING:
    from bertline.pipelines.verdict import Verdict

SMALLEST_PLAIN = 1e-4  # of measures


def print_counts(made: Artifact) -> None:
    """Print an artifact's counts and where it lies."""
    print_figures(made.manifest["kind"], made.manifest["counts"])
    print(f"{'already made' if made.reused else 'written'}: {made.path}")


def print_figures(title: str, figures: Mapping[str, int | float]) -> None:
    """Print figures by name."""
    table = Table("count", "value", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name, value in figures.items():
        table.add_row(name, format_figure(value))
    _print(table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print what is known of one thing, a line each."""
    table = Table("what", "value", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name, value in facts.items():
        table.add_row(name, _as_text(value))
    _print(table)


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that all have the same keys; numbers at the right."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*map(_as_text, row.values()))
    _print(table)


def print_steps(notes: Iterable[dict[str, Any]]) -> None:
    """Print a run's tasks with the seconds each took when it was made."""
    table = Table("step", "seconds", "made", "artifact", box=box.SIMPLE_HEAD, title="steps", title_justify="left")
    for note in notes:
        seconds = f"{note['seconds']:.1f}"
        made = "before" if note["reused"] else "now"
        table.add_row(note["task"], seconds, made, f"{note['kind']}/{note['fingerprint']}")
    _print(table)


def print_verdicts(verdicts: Iterable["Verdict"], caption: str) -> None:
    """Print a run's scores, each beside what it is held against, and better or worse in words."""
    table = Table(box=box.SIMPLE_HEAD, title="scores", title_justify="left")
    for column in ("score", "value"):
        table.add_column(column, no_wrap=True)
    for column in ("baseline", "verdict"):
        table.add_column(column)
    for each in verdicts:
        table.add_row(each.score, each.value, each.baseline, each.verdict)
    _print(table)
    print_text(caption)


def print_text(text: str) -> None:
    """Print a line, broken between words at the terminal's width; in a file or a pipe it stays one."""
    console = Console()
    console.print(text, soft_wrap=not console.is_terminal, markup=False, highlight=False)


def format_figure(value: float) -> str:
    """A count with thousands separated, a measure with four digits; a very small one by its power of ten."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if value == 0 or abs(value) >= SMALLEST_PLAIN else f"{value:.1e}"


def _as_text(value: Any) -> str:
    return format_figure(value) if isinstance(value, int | float) else str(value)


def _print(table: Table) -> None:
    """At the terminal's width; in a file or a pipe nothing is cut short."""
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
