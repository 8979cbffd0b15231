"""Processes that stay alive and take turns, so that all are timed in the same minutes of a machine. Linux only."""

import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from measuring import MEGABYTE

PEERS = Path(__file__).parent / "peers"
# All cores for whoever's turn it is: thread counts are left to the libraries, which take what there is.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
MOST_IDLE_SHARE = 0.02  # of a core, of a side whose turn it is not


@dataclass
class Side:
    """A process of `script` under `python` that does steps of its `job` when it is told to."""

    name: str
    python: str
    script: str  # of peers/
    job: Mapping[str, Any]
    start_mb: float = 0.0  # resident before the first step: libraries, weights and slots
    first_seconds: float = 0.0  # of the first step, which compiles
    highest_mb: float = 0.0  # resident at most, from then on; known at the end
    losses: list[float] = field(default_factory=list)  # of the last step of each turn

    def __enter__(self) -> "Side":
        """Start it, and wait until it is ready."""
        self._errors: IO[str] = tempfile.TemporaryFile("w+")
        command = [self.python, str(PEERS / self.script), json.dumps(dict(self.job))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process: subprocess.Popen[str] = subprocess.Popen(command, text=True, env=os.environ | QUIET, **pipes)
        self._answer()
        self.start_mb = self._memory_mb("VmRSS")
        self._file("clear_refs").write_text("5")  # the peak counts from here
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if kind is None:
            self.highest_mb = self._memory_mb("VmHWM")
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def go(self, steps: int) -> float:
        """The wall seconds of that many steps. Raises RuntimeError when the process ended or the loss is not finite."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it died of is read below
            print(f"go {steps}", file=self._process.stdin, flush=True)
        seconds, loss = map(float, self._answer().split())
        if not math.isfinite(loss):
            raise RuntimeError(f"{self.name}: the loss is {loss}")
        self.losses.append(loss)
        return seconds

    def warm_up(self, steps: int = 2) -> None:
        """Do the first step, which compiles, and some more."""
        self.first_seconds = self.go(1)
        self.go(steps)

    def cpu_seconds(self) -> float:
        """User and system, of all its threads."""
        user, system = self._file("stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _memory_mb(self, what: str) -> float:
        values = dict(line.split(":", 1) for line in self._file("status").read_text().splitlines())
        return int(values[what].split()[0]) * 1024 / MEGABYTE

    def _file(self, name: str) -> Path:
        return Path(f"/proc/{self._process.pid}/{name}")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self.name} ended, exit code {self._process.wait()}:\n{self._errors.read()[-3000:]}")
        return line


def turns(sides: Sequence[Side], rounds: int, seconds: float) -> list[dict[str, float]]:
    """Seconds a step of each side, in each of the rounds; a turn takes about `seconds`.

    Each round starts with another side. Raises RuntimeError when a side computes while it is not its turn.
    """
    steps = {side.name: max(1, round(seconds / side.go(1))) for side in sides}
    measured, busy = [], dict.fromkeys(steps, 0.0)
    began = time.monotonic()
    before = {side.name: side.cpu_seconds() for side in sides}
    for number in range(rounds):
        first = number % len(sides)
        taken = {}
        for side in (*sides[first:], *sides[:first]):
            own = side.cpu_seconds()
            taken[side.name] = side.go(steps[side.name]) / steps[side.name]
            busy[side.name] += side.cpu_seconds() - own
        measured.append(taken)
    elapsed = time.monotonic() - began
    for side in sides:
        idle = (side.cpu_seconds() - before[side.name] - busy[side.name]) / elapsed
        if idle > MOST_IDLE_SHARE:
            raise RuntimeError(f"{side.name} used {idle:.0%} of a core while it was not its turn")
    return measured
