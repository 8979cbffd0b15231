"""What every test may use: golden outputs, where the machine has them, and signals; Hypothesis' settings."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# `make test` tries a few, `make test-all` the many (--hypothesis-profile=many); a slow machine fails neither.
for profile, examples in (("few", 30), ("many", 400)):
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")

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
