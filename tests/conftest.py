"""What every test may use: golden outputs, where the machine has them, signals, a terminal; Hypothesis' settings."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import pyte
import pytest
from hypothesis import HealthCheck, settings

from fakes.storage_server import StorageServer, serving

# A shell's background job ignores Ctrl-C, and so would all that the tests start and send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` tries a few, `make test-all` the many (--hypothesis-profile=many); a slow machine fails neither.
for profile, examples in (("few", 30), ("many", 400)):
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")

TERMINAL_ROWS = 400  # so that nothing is scrolled away
SECONDS = 600  # that anything waited for may take, on a busy machine
Signal = Callable[["subprocess.Popen[Any]", Signals, Callable[[], Any]], Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one would be at work alone in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Golden outputs of the originals (see tests/README.md); skips where they are not at hand."""
    folder = os.environ.get("BERTLINE_REFERENCE")
    if not folder:
        pytest.skip("BERTLINE_REFERENCE does not name a folder of golden outputs")
    return Path(folder)


@pytest.fixture(scope="session")
def signal_once() -> Signal:
    """Sends a signal to a process once something holds, and waits for its end; returns what it said as errors."""

    def send(process: "subprocess.Popen[Any]", number: Signals, holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert process.poll() is None, "ended before the signal"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(number)
        return process.communicate(timeout=SECONDS)[1]

    return send


class Program:
    """A command in a session of its own, as a shell's foreground job is one, and what it has said so far."""

    def __init__(self, command: list[str], cwd: Path, stdout: int = subprocess.PIPE) -> None:
        self.said, self.folder = "", cwd
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said += line

    def wait_until(self, holds: Callable[["Program"], object]) -> None:
        """Wait for something that holds of the running program."""
        deadline = time.monotonic() + SECONDS
        while not holds(self):
            assert self.process.poll() is None, f"ended before: {self.said}"
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)

    def send(self, number: Signals, *, alone: bool = False) -> None:
        """Send a signal to all of the session, as a terminal does, or to the program alone."""
        (os.kill if alone else os.killpg)(self.process.pid, number)

    def wait(self) -> int:
        """The exit code, once nothing of the session is left."""
        code = self.process.wait(SECONDS)
        deadline = time.monotonic() + SECONDS
        while left := self._find_left():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
        self._reader.join()
        assert "Traceback" not in self.said
        lines = self.said.splitlines()
        assert len(lines) < 2 or lines[-1] != lines[-2], self.said
        return code

    def _find_left(self) -> list[str]:
        listed = ["ps", "-wwo", "pid=,stat=,args=", "-s", str(self.process.pid)]
        shown = subprocess.run(listed, capture_output=True, text=True).stdout
        return [line for line in shown.splitlines() if line.split()[1][0] != "Z"]

    def end(self, number: Signals, once: Callable[["Program"], object], *, alone: bool = False) -> int:
        """The exit code of one that gets a signal once something holds."""
        self.wait_until(once)
        self.send(number, alone=alone)
        return self.wait()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts a command in a session of its own, to which signals can be sent; nothing of it outlives the test."""
    begun: list[Program] = []

    def start(*given: Any, **more: Any) -> Program:
        begun.append(Program(*given, **more))
        return begun[-1]

    yield start
    for each in begun:
        with suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Shown:
    """What a command has left on a terminal, and what it had drawn on the way."""

    exit_code: int
    lines: list[str]  # of the screen at the end, but for empty ones; without the blanks at their ends
    drawn: list[str]  # every state of the line of progress


Terminal = Callable[..., Shown]


@pytest.fixture(scope="session")
def terminal() -> Terminal:
    """Runs a command in a terminal so many columns wide (0: it does not say how many, and has 80).

    Once `until` is shown the terminal gets `then` columns, and the command the end of its input.
    """

    def run(command: list[str], columns: int, *, until: str = "", then: int = 0, **variables: str) -> Shown:
        screen = pyte.Screen(columns or 80, TERMINAL_ROWS)
        stream, written = pyte.ByteStream(screen), b""
        host, device = pty.openpty()
        _resize(host, columns)
        environment = os.environ | {"TERM": "xterm-256color"} | variables
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=device, stderr=device, env=environment) as process:
            os.close(device)
            assert process.stdin is not None
            while chunk := _read(host):
                written += chunk
                stream.feed(chunk)
                if until.encode() in written and not process.stdin.closed:
                    if until:
                        screen.resize(TERMINAL_ROWS, then)
                        _resize(host, then)
                    process.stdin.close()
        os.close(host)
        drawn = re.findall(rb"(?:\x1b\[J|\n)([^\r\n\x1b]+)\r(?!\n)", written)
        lines = [line.rstrip() for line in screen.display if line.strip()]
        return Shown(process.returncode, lines, [line.decode() for line in drawn])

    return run


def _resize(terminal: int, columns: int) -> None:
    size = struct.pack("HHHH", TERMINAL_ROWS if columns else 0, columns, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # all who wrote there have ended
        return b""


@pytest.fixture
def storage_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    """A local Cloud Storage with the bucket b, tmp_path/served/b, which clients find."""
    (tmp_path / "served" / "b").mkdir(parents=True)
    with serving(tmp_path / "served") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server
