"""Real processes: a run, the shell and the step that KFP starts, and workers."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bertline.components.run_process import RUN_PROCESS_VARIABLE, RunPreemption, end_run, fail_run, no_task_after
from bertline.preemption import PreemptedError

RUN = """
import os, subprocess, sys
from pathlib import Path
from bertline.components.run_process import RUN_PROCESS_VARIABLE, RunPreemption
from bertline.preemption import ended_by_signals
os.environ[RUN_PROCESS_VARIABLE] = str(os.getpid())
with ended_by_signals("run"), RunPreemption(Path(sys.argv[1])) as preemption:
    subprocess.run(["sh", "-c", '"$0" -c "$1" "$2" "$3"; true', sys.executable, sys.argv[2], sys.argv[1], sys.argv[3]])
    if preemption.requested:
        preemption.wait_for_steps()
        print("the step's end was waited for", flush=True)
"""
STEP = """
import os, sys, time
from pathlib import Path
from bertline.components.run_process import join_run
from bertline.preemption import Preemption, ended_by_signals
with ended_by_signals("step"), Preemption() as preemption:
    join_run(Path(sys.argv[1]))
    preemption.look()
    print(os.getpid(), flush=True)
    while not preemption.look():
        time.sleep(0.01)
    time.sleep(float(sys.argv[2]))
    print("saved after", preemption.cause, flush=True)
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


def started(folder: Path, seconds: int = 1) -> tuple[subprocess.Popen[str], int]:
    """A run in a process group of its own, and its step's process, which takes `seconds` to save."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), STEP, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    assert run.stdout is not None
    return run, int(run.stdout.readline())


@pytest.mark.parametrize("whole_group", [False, True], ids=["the run alone", "the shell, too"])
@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_at_a_run_lets_its_step_save_and_is_waited_for(
    tmp_path: Path, whole_group: bool, number: signal.Signals, name: str
) -> None:
    run, step = started(tmp_path)
    if whole_group:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    shown, _ = run.communicate(timeout=60)
    assert shown.endswith(f"saved after {name}\nthe step's end was waited for\n")
    assert "Traceback" not in shown
    assert run.returncode == 0
    assert gone(step)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("whole_group", [False, True], ids=["the run alone", "the shell, too"])
def test_a_second_ctrl_c_at_a_run_ends_its_step_without_saving(tmp_path: Path, whole_group: bool) -> None:
    run, step = started(tmp_path, seconds=600)
    assert run.stdout is not None
    send = (lambda: os.killpg(run.pid, signal.SIGINT)) if whole_group else (lambda: run.send_signal(signal.SIGINT))
    send()
    assert "Ctrl-C once more ends it at once" in run.stdout.readline()
    send()
    shown, _ = run.communicate(timeout=60)
    assert shown.count("ended by a second Ctrl-C") == 2  # the step says so, and the run
    assert "Traceback" not in shown
    assert run.returncode == 130
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


def test_a_signal_that_comes_to_a_step_alone_ends_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further task is begun, as KFP would, which only sees that one failed."""
    end_run(tmp_path)  # of no run: a step on a cluster
    with RunPreemption(tmp_path) as preemption:
        assert not preemption.is_ending()
        monkeypatch.setenv(RUN_PROCESS_VARIABLE, str(os.getpid()))
        end_run(tmp_path)
        assert preemption.is_ending()
        with no_task_after(preemption), pytest.raises(PreemptedError, match="no further step is begun"):
            logging.getLogger().warning("Executing task")
    assert list(tmp_path.iterdir()) == []


def test_signals_that_a_killed_run_has_left_are_not_those_of_the_next(tmp_path: Path) -> None:
    """A run that had SIGTERM and then SIGKILL, and one that is begun in the same second, and so in the same folder."""
    for name in ("ending", "ended", "steps.lock"):
        (tmp_path / name).write_text(f"{signal.SIGTERM:d}\n")
    with RunPreemption(tmp_path) as preemption:
        assert not preemption.is_ending()
        preemption.wait_for_steps()
        assert not (tmp_path / "ending").exists()
    assert list(tmp_path.iterdir()) == []


def test_no_step_is_begun_after_one_that_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunPreemption(tmp_path) as preemption:
        monkeypatch.setenv(RUN_PROCESS_VARIABLE, str(os.getpid()))
        fail_run(tmp_path, "prepare_128")
        with no_task_after(preemption), pytest.raises(PreemptedError, match="prepare_128 has failed, no further step"):
            logging.getLogger().warning("Executing task")
        assert not preemption.is_ending()
    assert list(tmp_path.iterdir()) == []
