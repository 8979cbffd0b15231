"""What a whole run costs a store in a bucket at many shards: requests by kind, seconds and memory of every step.

    python benchmarks/store_run.py --shards 10000

The graph, its steps' processes and the client are the real ones, the server is the tests' own on this machine, the text
small and made up, the model a toy: the figures are those of the store. The run comes first on a machine with an empty
cache; then the same command again, then on another machine, then there with a longer training, which needs the records.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage_service import KINDS, ROOT, Service, served

DOCUMENTS_PER_SHARD = 34  # prepare makes no shard of fewer than 32
HELDOUT = 0.02
SENTENCES = 2
WORDS = 1000
SECONDS_BETWEEN_SAMPLES = 0.1
STEP = re.compile(r"step \d+ of \d+: (\w+)")
DONE = re.compile(r"\w+: (?:made before, kept|done in .*): gs://")
END = "latest, lineage page, summary"
NOTES = """
import sys
from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.store.remote import open_store
assert read_run_notes(open_store("gs://b/team/store").objects, sys.argv[1])
"""


@dataclass
class Measured:
    """What a step did."""

    name: str
    seconds: float = 0.0
    memory_bytes: int = 0  # at most, of its largest process
    requests: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "served", "b") as service:
        measure(shards, Path(folder), service)


def measure(shards: int, folder: Path, service: Service) -> None:
    """The runs, and what looks after the store."""
    text = folder / "text.jsonl"
    write_text(text, round(shards * DOCUMENTS_PER_SHARD / (1 - HELDOUT)))
    print(f"{shards:,} shards of {text.stat().st_size / shards:,.0f} bytes of text", flush=True)
    again = run_command(text, shards)
    for title, machine, command in (
        ("First run", "one", again),
        ("The same command again", "one", again),
        ("The same command on another machine", "two", again),
        ("A longer training on another machine", "two", [*again, "--steps_512=3"]),
    ):
        print_table(title, follow(command, folder, machine, service))
    run = sorted(path.name for path in (folder / "served" / "b" / "team" / "store" / "runs").iterdir())[-1]
    store = "--store=gs://b/team/store"
    bertline = [sys.executable, "-m", "bertline"]
    rows = []
    for name, machine, command in (
        ("gc", "two", [*bertline, "gc", store, "--days=0"]),
        ("gc --delete", "two", [*bertline, "gc", store, "--days=0", "--entries=1", "--delete"]),
        ("lineage", "two", [*bertline, "lineage", store, f"--out={folder}/page.html"]),
        ("lineage, another machine", "three", [*bertline, "lineage", store, f"--out={folder}/page.html"]),
        ("what status reads", "two", [sys.executable, "-c", NOTES, run]),
        ("history", "two", [*bertline, "history", store]),
    ):
        (row,) = follow(command, folder, machine, service)
        row.name = name
        rows.append(row)
    print_table("Afterwards", rows)


def write_text(path: Path, documents: int) -> None:
    """Documents of made-up words, a few sentences each."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(WORDS)]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(documents):
            sentences = (f"{' '.join(chance.choices(words, k=9)).capitalize()}." for _ in range(SENTENCES))
            file.write(json.dumps({"text": " ".join(sentences)}) + "\n")


def run_command(text: Path, shards: int) -> list[str]:
    """`bertline run tiny` with many shards of records at 128, and few steps."""
    settings = {
        "out": "gs://b/team",
        "jsonl": text,
        "prepare_128.num_shards": shards,
        "prepare.runner": "processes",
        "dupe_factor": 1,
        "vocab_size": 1500,
        "heldout_share": HELDOUT,
        "steps_128": 6,
        "steps_512": 2,
        "batch": 8,
        "save_every": 4,
        "evaluate_examples": 16,
        "jit_compile": "false",
        "ingest.min_document_characters": 1,
    }
    return [sys.executable, "-m", "bertline", "run", "tiny", *(f"--{name}={value}" for name, value in settings.items())]


def follow(command: list[str], folder: Path, machine: str, service: Service) -> list[Measured]:
    """Run a command on a "machine", which is a cache of its own; what each of its steps did."""
    environment = os.environ | {"BERTLINE_CACHE": str(folder / machine), "PYTHONUNBUFFERED": "1"}
    service.take_counts()
    steps, started, said = [Measured("start")], time.monotonic(), ""

    def end_step() -> None:
        nonlocal started
        steps[-1].requests = service.take_counts()
        steps[-1].seconds = time.monotonic() - started
        started = time.monotonic()

    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        with sampling(process.pid, lambda size: note_memory(steps[-1], size)):
            for line in process.stderr:
                said += line
                if found := STEP.search(line):
                    end_step()
                    steps.append(Measured(found[1]))
                elif DONE.match(line):
                    end_step()
                    steps.append(Measured(END))
    end_step()
    steps = join_with_next(steps)
    if process.returncode:
        raise SystemExit(f"{command}: {process.returncode}\n{said}")
    return steps


def join_with_next(steps: list[Measured]) -> list[Measured]:
    """What is between two steps is the start of the second one."""
    joined: list[Measured] = []
    for step in steps:
        if joined and joined[-1].name == END:
            before = joined.pop()
            step.seconds += before.seconds
            step.requests += before.requests
        joined.append(step)
    return joined


def note_memory(step: Measured, size_bytes: int) -> None:
    """Keep the largest."""
    step.memory_bytes = max(step.memory_bytes, size_bytes)


@contextmanager
def sampling(pid: int, note: Callable[[int], None]) -> Iterator[None]:
    """While the block runs, note the peak resident size of the largest process that a process has begun."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SECONDS_BETWEEN_SAMPLES):
            family = descendants(pid)
            note(max(map(peak_of, family[1:] or family), default=0))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def descendants(pid: int) -> list[int]:
    """A process and all that it began."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in descendants(int(child)))]


def peak_of(pid: int) -> int:
    """The resident size of a process at most, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def print_table(title: str, steps: list[Measured]) -> None:
    """A row a step."""
    print(f"\n| {title} | {' | '.join(KINDS)} | s | memory, MB |\n|---{'|---' * len(KINDS)}|---|---|")
    total = Measured("all")
    for step in steps:
        total.requests += step.requests
        total.seconds += step.seconds
        total.memory_bytes = max(total.memory_bytes, step.memory_bytes)
    for step in [*steps, total] if len(steps) > 1 and title != "Afterwards" else steps:
        counts = " | ".join(f"{step.requests[kind]:,}" for kind in KINDS)
        print(f"| {step.name} | {counts} | {step.seconds:,.1f} | {step.memory_bytes / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
