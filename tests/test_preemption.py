"""Real processes that get SIGTERM or Ctrl-C, in a process group of their own as a terminal's foreground one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = """
import hashlib, os, signal, subprocess, sys, time
from pathlib import Path
from bertline.files import draft_of
from bertline.preemption import Preemption, PreemptedError, ended_by_signals, held
def begin():
    print("begun", flush=True)
def work():
    while True:
        time.sleep(0.01)
def compute():
    "In C, without coming back to Python."
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
try:
    with ended_by_signals("bertline test", lambda: "the same command goes on"):
"""
TAIL = """
except PreemptedError as error:
    print(f"raised: {error}", flush=True)
    sys.exit(error.exit_code)
"""
SIGNALS = pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 75), (signal.SIGHUP, "SIGHUP", 75)],
)


def program(body: str) -> str:
    return HEAD + "".join(f"        {line}\n" for line in body.strip().splitlines()) + TAIL


def start(body: str, folder: Path, ignored: signal.Signals | None = None, whole: str = "") -> "subprocess.Popen[str]":
    """A process that runs `body` and has said that it has begun; it ignores that signal from its start."""

    def set_up() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # a shell's background job ignores the first, nohup the other
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", whole or program(body)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=set_up,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def end(process: "subprocess.Popen[str]") -> str:
    """What it said till its end; nothing of its group is left."""
    shown, _ = process.communicate(timeout=60)
    assert wait_until(lambda: not group_of(process.pid)), group_of(process.pid)
    assert "Traceback" not in shown
    return shown


def group_of(leader: int) -> list[str]:
    shown = subprocess.run(["ps", "-o", "pid=,stat=,args=", "-s", str(leader)], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if " Z" not in line]


def wait_until(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@SIGNALS
def test_where_nothing_is_to_be_saved_the_error_is_raised_at_once_and_children_are_killed(
    number: signal.Signals, name: str, code: int, tmp_path: Path
) -> None:
    """The child is Python in a shell: such a one says where it was when Ctrl-C came, if it gets it."""
    child = '"$0" -c "import time; time.sleep(600)"; true'
    body = f"subprocess.Popen(['sh', '-c', {child!r}, sys.executable])\ntime.sleep(0.5)\nbegin()\nwork()"
    process = start(body, tmp_path)
    os.killpg(process.pid, number)
    assert end(process) == f"raised: ended by {name}; the same command goes on\n"
    assert process.returncode == code


@SIGNALS
def test_a_process_that_computes_in_c_is_ended_as_it_is_without_its_draft(
    number: signal.Signals, name: str, code: int, tmp_path: Path
) -> None:
    body = """
with draft_of(Path("out")) as draft:
    draft.write_text("half")
    begin()
    compute()
"""
    process = start(body, tmp_path)
    time.sleep(0.5)  # it is in C by then
    os.killpg(process.pid, number)
    assert end(process) == f"bertline test: ended by {name}; the same command goes on\n"
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


def test_an_error_that_a_finalizer_swallows_ends_the_process_none_the_less(tmp_path: Path) -> None:
    body = """
class Slow:
    def __del__(self):
        begin()
        work()
Slow()
work()
"""
    process = start(body, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert end(process) == "bertline test: ended by Ctrl-C; the same command goes on\n"
    assert process.returncode == 130


def test_an_error_that_a_library_replaces_comes_out_as_it_was(tmp_path: Path) -> None:
    body = """
try:
    begin()
    work()
except BaseException as error:
    raise RuntimeError("a library's own") from error
"""
    process = start(body, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert end(process) == "raised: ended by Ctrl-C; the same command goes on\n"


def test_what_a_library_made_of_an_error_that_it_has_swallowed_gets_no_name(tmp_path: Path) -> None:
    body = """
try:
    begin()
    work()
except BaseException:
    pass
with held("out"):
    Path("out").write_text("of half the text")
"""
    process = start(body, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert end(process) == "raised: ended by SIGTERM; the same command goes on\n"
    assert not list(tmp_path.iterdir())


def test_another_signal_while_what_is_kept_is_described_changes_nothing(tmp_path: Path) -> None:
    body = """
def describe():
    os.kill(os.getpid(), 15)
    time.sleep(0.1)
    return "described"
with ended_by_signals(describe_kept=describe):
    begin()
    work()
"""
    process = start(body, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert end(process) == "raised: ended by SIGTERM; described\n"
    assert process.returncode == 75


TRAINING = """
with Preemption() as preemption:
    preemption.look()
    begin()
    while not preemption.look():
        time.sleep(0.01)
    time.sleep(SECONDS)
    raise PreemptedError(f"ended at step 3 by {preemption.cause}, all of it saved")
"""


@SIGNALS
def test_a_training_saves_first(number: signal.Signals, name: str, code: int, tmp_path: Path) -> None:
    process = start(TRAINING.replace("SECONDS", "0"), tmp_path)
    process.send_signal(number)
    assert end(process) == f"raised: ended at step 3 by {name}, all of it saved\n"
    assert process.returncode == code


def test_a_training_that_has_only_looked_again_at_what_a_snapshot_holds_saves_nothing(tmp_path: Path) -> None:
    """A resumed one makes up for an evaluation, and is compiled then."""
    body = """
with Preemption() as preemption:
    preemption.look()
    preemption.forget_looks()
    begin()
    compute()
"""
    process = start(body, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert end(process).endswith(": ended by SIGTERM; the same command goes on\n")
    assert process.returncode == 75


TRAINING_TO_A_FILE = """
from bertline.progress import Progress
import bertline.progress
bertline.progress.SECONDS_BETWEEN_LINES = 0.0
with Preemption() as preemption, Progress("pretrain", 10, "steps") as progress:
    preemption.look()
    begin()
    while not preemption.look():
        time.sleep(0.01)
    time.sleep(1.0)  # the listener says that it waits
    progress.advance(1)
    Path("saved").write_text(preemption.cause)
    os._exit(PreemptedError("").exit_code)
"""


def test_a_training_whose_messages_nobody_reads_any_more_saves_too(tmp_path: Path) -> None:
    """Ctrl-C ends the `tee` of `bertline pretrain ... 2>&1 | tee log` first."""
    process = start(TRAINING_TO_A_FILE, tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "saved").read_text() == "Ctrl-C"


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_a_training_whose_terminal_is_gone_saves(terminal: str, tmp_path: Path) -> None:
    """As when the connection of an ssh drops: SIGHUP comes, and what it writes then raises an error."""
    ours, its = os.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY)" + program(TRAINING_TO_A_FILE),
        ],
        cwd=tmp_path,
        env=os.environ | {"TERM": terminal},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup's child ignores it
    )
    os.close(its)
    shown = b""
    while b"begun\r\n" not in shown:
        shown += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(60) == 75
    assert (tmp_path / "saved").read_text() == "SIGHUP"


@pytest.mark.parametrize(
    ("number", "before", "ignored"),
    [
        (signal.SIGUSR1, "signal.signal(signal.SIGUSR1, lambda *_: None)\n", None),  # of a program that calls bertline
        (signal.SIGHUP, "", signal.SIGHUP),  # as nohup ignores it
    ],
)
def test_a_signal_of_another_purpose_and_an_ignored_one_end_nothing(
    number: signal.Signals, before: str, ignored: signal.Signals | None, tmp_path: Path
) -> None:
    process = start(f"{before}begin()\nwork()", tmp_path, ignored=ignored)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert end(process) == "raised: ended by SIGTERM; the same command goes on\n"


def test_a_block_after_another_hides_ctrl_c_from_its_children_too(tmp_path: Path) -> None:
    """The first one's threads are gone from the process before it ends: on one processor they go on last."""
    body = """
import os, signal
from bertline.preemption import ended_by_signals
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print("begun", flush=True)
kept = set()
for _ in range(100):
    with ended_by_signals("bertline test"):
        kept.add(signal.getsignal(signal.SIGINT))
print(kept == {signal.SIG_IGN})
"""
    assert end(start("", tmp_path, whole=body)) == "True\n"


def test_a_second_ctrl_c_ends_a_training_that_saves(tmp_path: Path) -> None:
    process = start(TRAINING.replace("SECONDS", "600"), tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    wait = "the step at work is computed and saved, then it ends; Ctrl-C once more ends it at once, without that"
    assert process.stdout.readline() == f"bertline test: Ctrl-C came: {wait}\n"
    os.killpg(process.pid, signal.SIGTERM)  # as a machine that is taken away repeats: nothing follows from it
    time.sleep(0.2)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert end(process) == "bertline test: ended by a second Ctrl-C, without saving; the same command goes on\n"
    assert process.returncode == 130


def test_a_result_gets_its_name_before_a_signal_is_heeded(tmp_path: Path) -> None:
    body = """
with held("out"):
    begin()
    time.sleep(0.3)
    Path("out").write_text("whole")
work()
"""
    process = start(body, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert end(process) == "raised: ended by Ctrl-C; out is whole\n"
    assert (tmp_path / "out").read_text() == "whole"


SESSION = """
import subprocess, time
from bertline.preemption import Preemption, PreemptedError, ended_by_signals
own = subprocess.Popen(["sleep", "600"])
time.sleep(0.1)  # its age is told in hundredths of a second
try:
    with ended_by_signals(), Preemption() as preemption:
        LOOK
        step = subprocess.Popen(["sleep", "600"])
        print("begun", flush=True)
        try:
            step.wait()
            raise PreemptedError("the step is dead")
        finally:
            time.sleep(1.5)
except PreemptedError as error:
    print(error, own.poll(), step.wait(), flush=True)
own.kill()
"""


@pytest.mark.parametrize("twice", [False, True], ids=["at once", "the second time"])
def test_a_python_session_goes_on_with_children_of_its_own(twice: bool, tmp_path: Path) -> None:
    """A notebook's kernel calls `bertline.run`, is interrupted, and has another thing at work, such as TensorBoard."""
    process = start("", tmp_path, whole=SESSION.replace("LOOK", "preemption.look()" if twice else "pass"))
    process.send_signal(signal.SIGINT)
    if twice:
        assert process.stdout is not None
        assert "Ctrl-C came: the step at work" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
    why = "the step is dead" if twice else "ended by Ctrl-C; the same command begins again"
    assert end(process).endswith(f"{why} None -9\n")
    assert process.returncode == 0
