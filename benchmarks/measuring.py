"""Whole processes, timed: CPU and wall seconds, memory, ratios over rounds. Linux only: memory is read from /proc."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

MEGABYTE = 1_000_000  # bytes
SECONDS_BETWEEN_LOOKS = 0.02  # at a running process; also the precision of wall times
# One thread a process, so that a core is one core.
ONE_THREAD = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"],
    "1",
)
ENVIRONMENT = {**ONE_THREAD, "TOKENIZERS_PARALLELISM": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

Command = list[str]


@dataclass(frozen=True)
class Cost:
    """What a process took, with all processes that it started and waited for."""

    cpu_seconds: float  # user and system
    wall_seconds: float
    peak_rss_mb: float  # of its largest process
    total_rss_mb: float  # largest sum over its processes; pages that they share count once for each


Round = dict[str, Cost]


def rounds_of(sides: Mapping[str, Callable[[], list[Command]]], rounds: int, cores: int) -> list[Round]:
    """The costs of all sides in turn, so often; a side's commands are asked for before each of its runs."""
    return [{name: measured(commands(), cores) for name, commands in sides.items()} for _ in range(rounds)]


def median(rounds: list[Round], side: str, what: str) -> float:
    """Of one side's costs of one kind: median(rounds, "original", "cpu_seconds")."""
    return float(statistics.median(vars(costs[side])[what] for costs in rounds))


def ratio(rounds: list[Round], other: str, side: str, what: str) -> float:
    """The median of the rounds' ratios of the other side's cost to the side's."""
    return float(statistics.median(vars(costs[other])[what] / vars(costs[side])[what] for costs in rounds))


def measured(commands: list[Command], cores: int) -> Cost:
    """The cost of commands one after another, on that many cores. Raises RuntimeError when one fails."""
    costs = [_measured(command, cores) for command in commands]
    return Cost(
        sum(cost.cpu_seconds for cost in costs),
        sum(cost.wall_seconds for cost in costs),
        max(cost.peak_rss_mb for cost in costs),
        max(cost.total_rss_mb for cost in costs),
    )


def _measured(command: Command, cores: int) -> Cost:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < cores:
        raise RuntimeError(f"{cores} cores are needed, {len(allowed)} may be used")
    with tempfile.TemporaryFile("w+") as output:
        os.sched_setaffinity(0, sorted(allowed)[-cores:])  # the new process inherits it
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        os.sched_setaffinity(0, allowed)
        total_rss, pid = 0, 0
        while not pid:
            total_rss = max(total_rss, _tree_rss_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}\n{output.read()[-2000:]}")
    # A process counts as at least as large as the one that started it: this one, which so imports little.
    return Cost(usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss * 1024 / MEGABYTE, total_rss / MEGABYTE)


def _tree_rss_bytes(pid: int | str) -> int:
    """What a process and all below it hold in memory now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_tree_rss_bytes(child) for child in " ".join(children).split())


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a new process on one core, so that this one stays small."""
    core = max(os.sched_getaffinity(0))
    with ProcessPoolExecutor(1, get_context("spawn"), os.sched_setaffinity, (0, {core})) as process:
        return process.submit(function, *arguments).result()
