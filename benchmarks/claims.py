"""The program of a benchmark: its common flags, and its claims measured one after the other and shown."""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import Any

from report import Result, Section, machine, print_markdown, print_tables

Claims = Mapping[str, Callable[[Any], list[Result]]]  # the docstring says what the table shows


def common_parser(description: str | None, claims: Collection[str]) -> argparse.ArgumentParser:
    """The flags of the benchmarks on text."""
    made = program_parser(description, claims, rounds=3)
    made.add_argument("--original_python", required=True, help="a Python with TensorFlow 1.15")
    made.add_argument("--vocab", required=True, help="an uncased vocab.txt")
    made.add_argument("--text", required=True, help="glob of text files, .txt or .txt.gz")
    return made


def program_parser(description: str | None, claims: Collection[str], rounds: int) -> argparse.ArgumentParser:
    """The flags that all benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--original", required=True, help="a checkout of google-research/bert")
    made.add_argument("--rounds", type=int, default=rounds, help=f"runs of each side, in turn (default {rounds})")
    made.add_argument("--only", nargs="+", choices=claims, metavar="NAME", help=f"of {', '.join(claims)}")
    made.add_argument("--out", metavar="FILE", help="JSON file for all measurements")
    made.add_argument("--markdown", action="store_true", help="print Markdown")
    return made


def texts_of(flags: argparse.Namespace) -> list[str]:
    """The files that --text names; ends the program where there are none."""
    texts = sorted(glob(flags.text, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not texts:
        sys.exit(f"{flags.text}: no such file")
    return texts


def measure(claims: Claims, benchmark: Any, flags: argparse.Namespace, *sizes: str) -> None:
    """Measure each claim, print the tables, and write the measurements; `sizes` are flags to write with them."""
    settings = {name: getattr(flags, name) for name in (*sizes, "rounds")} | machine()
    sections = {}
    for name, claim in claims.items():
        title = str(claim.__doc__)
        print(f"{name}: {title}", file=sys.stderr)
        sections[name] = Section(title, claim(benchmark))
        if flags.out:  # after each claim, so that a failure leaves those before it
            content = settings | {name: asdict(section) for name, section in sections.items()}
            Path(flags.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if flags.markdown:
        print_markdown(sections, settings)
    else:
        print_tables(sections)
