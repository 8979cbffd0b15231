"""A local Cloud Storage in a process of its own, the tests' server, and what it has been asked for so far."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
SERVE = """
import json, sys
from pathlib import Path
from fakes.storage_server import serving
told = 0
with serving(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    for line in sys.stdin:
        found, told = server.requests[told:], len(server.requests)
        print(json.dumps([(each.method, each.path) for each in found]), flush=True)
"""
KINDS = ("writes", "reads", "looks", "lists", "batches")  # the columns of a table


@dataclass
class Service:
    """The running server; its buckets are folders below `root`."""

    process: "subprocess.Popen[str]"

    def take_counts(self) -> Counter[str]:
        """Requests since the last call, by kind."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Counter(kind_of(method, path) for method, path in json.loads(self.process.stdout.readline()))


def kind_of(method: str, path: str) -> str:
    """What a request is: an object written, read, looked at (its metadata), a page of a list, a batch of deletions.

    >>> kind_of("GET", "/storage/v1/b/b/o?prefix=a"), kind_of("GET", "/download/storage/v1/b/b/o/a?alt=media")
    ('lists', 'reads')
    """
    url = urlsplit(path)
    if url.path.startswith("/batch"):
        return "batches"
    if method != "GET":
        return "writes"
    if url.path.startswith("/download") or "alt=media" in url.query:
        return "reads"
    return "lists" if url.path.endswith("/o") else "looks"


@contextmanager
def served(root: Path, *buckets: str) -> Iterator[Service]:
    """A server of these buckets below `root`, which this process's clients and its children's talk to."""
    for bucket in buckets:
        (root / bucket).mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-c", SERVE, str(root)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        os.environ["STORAGE_EMULATOR_HOST"] = process.stdout.readline().strip()
        try:
            yield Service(process)
        finally:
            del os.environ["STORAGE_EMULATOR_HOST"]
            process.stdin.close()
