"""What every test may use: golden outputs, where the machine has them, signals, a terminal; Hypothesis' settings."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import pyte
import pytest
from hypothesis import HealthCheck, settings

# `make test` tries a few, `make test-all` the many (--hypothesis-profile=many); a slow machine fails neither.
for profile, examples in (("few", 30), ("many", 400)):
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")

TERMINAL_ROWS = 400  # so that nothing is scrolled away
SECONDS = 600  # that anything waited for may take, on a busy machine
Signal = Callable[["subprocess.Popen[Any]", Signals, Callable[[], Any]], Any]


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
