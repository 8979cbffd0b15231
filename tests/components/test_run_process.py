"""Real processes: a run, the shell and the step that KFP starts, and workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = """
import os, subprocess, sys
from pathlib import Path
from bertline.components.run_process import RUN_PROCESS_VARIABLE, RunPreemption
os.environ[RUN_PROCESS_VARIABLE] = str(os.getpid())
with RunPreemption(Path(sys.argv[1])) as preemption:
    subprocess.run(["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, sys.argv[2], sys.argv[1]])
    if preemption.requested:
        preemption.wait_for_steps()
        print("the step's end was waited for", flush=True)
"""
STEP = """
import os, sys, time
from pathlib import Path
from bertline.components.run_process import join_run
from bertline.preemption import Preemption
with Preemption() as preemption:
    join_run(Path(sys.argv[1]))
    print(os.getpid(), flush=True)
    while not preemption.look():
        time.sleep(0.01)
    time.sleep(1)
    print("saved", flush=True)
"""
POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from bertline.components.run_process import end_with_parent
def worker(number):
    time.sleep(0.1)
    return os.getpid()
with ProcessPoolExecutor(2, initializer=end_with_parent) as workers:
    for process in workers.map(worker, range(1000)):
        print(process, flush=True)
"""


def gone(process: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()  # dead, though nobody has asked how it ended
    except (FileNotFoundError, ProcessLookupError):
        return True


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    before = time.monotonic()
    while not happened():
        if time.monotonic() - before > seconds:
            return False
        time.sleep(0.05)
    return True


def started(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A run in a process group of its own, and its step's process."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), STEP], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert run.stdout is not None
    return run, int(run.stdout.readline())


@pytest.mark.parametrize("whole_group", [False, True], ids=["the run alone", "the shell, too"])
def test_sigterm_at_a_run_lets_its_step_save_and_is_waited_for(tmp_path: Path, whole_group: bool) -> None:
    run, step = started(tmp_path)
    if whole_group:
        os.killpg(run.pid, signal.SIGTERM)
    else:
        run.send_signal(signal.SIGTERM)
    shown, _ = run.communicate(timeout=600)
    assert shown == "saved\nthe step's end was waited for\n"
    assert run.returncode == 0
    assert gone(step)
    assert list(tmp_path.iterdir()) == []


def test_a_step_ends_when_its_run_is_killed(tmp_path: Path) -> None:
    """Also behind a shell, as KFP starts it."""
    run, step = started(tmp_path)
    run.kill()
    run.wait()
    assert within(600, lambda: gone(step))


def test_workers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(20)}
        parent.kill()
        assert len(workers) == 2
        assert within(600, lambda: all(map(gone, workers)))
