"""What a store in a bucket costs at many shards: requests, time and memory, by the real client against a local server.

    python benchmarks/store.py --shards 10000

The server is the tests' own, in a process of its own; its times are those of one Python process on this machine, so
that the requests are the figure to plan with: Cloud Storage answers each in some 20 to 100 ms, eight at a time here.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage_service import served


@dataclass(frozen=True)
class Config:
    """Of an artifact that is nothing but shards."""

    shards: int
    shard_bytes: int


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--shard_bytes", type=int, default=1_000)
    flags = parser.parse_args()
    config = Config(flags.shards, flags.shard_bytes)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "served", "b") as service:
        measure(config, Path(folder), lambda: service.take_counts().total())


def measure(config: Config, folder: Path, count: Callable[[], int]) -> None:
    """Commit an artifact of so many shards, find it on another machine, fetch it, and look for garbage."""
    from bertline.components.store.artifacts import Provenance, publish
    from bertline.components.store.bucket import Bucket
    from bertline.components.store.garbage import find_garbage
    from bertline.components.store.remote import BucketStore

    def write(out: Path, work: Path) -> dict[str, int | float]:
        for shard in range(config.shards):
            (out / f"part-{shard:05}-of-{config.shards:05}").write_bytes(os.urandom(config.shard_bytes))
        return {"shards": config.shards}

    provenance = Provenance("records_128", "prepare", {}, config, [])
    bucket = Bucket("gs://b/store")
    first, second = (BucketStore(folder / name, bucket) for name in ("first", "second"))
    found = None
    count()
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("made and committed", lambda: publish(first, provenance, write)),
        ("found made, the same machine", lambda: publish(first, provenance, write)),
        ("found made, another machine", lambda: second.find(provenance)),
        ("its files fetched and verified", lambda: second.fetch([second.place(provenance)])),
        ("looked through for garbage", lambda: list(find_garbage(bucket))),
    ]
    print(f"{config.shards:,} shards of {config.shard_bytes:,} bytes\n")
    print("| | requests | s | memory, MB |\n|---|---|---|---|")
    for name, act in steps:
        started = time.monotonic()
        found = act()
        seconds = time.monotonic() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(f"| {name} | {count():,} | {seconds:,.1f} | {memory:,.0f} |", flush=True)
    assert found == []


if __name__ == "__main__":
    main()
