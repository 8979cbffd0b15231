"""An interrupted training goes on under code that trains alike, and is refused by other code, which is named."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertline.components.store import fingerprint as code
from bertline.model.training.snapshots import snapshot_steps
from bertline.pipelines.cli.main import main

SECONDS = 120  # that anything waited for may take
PREEMPTED = 75


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources, of which the fingerprints are made."""
    shutil.copytree(code.ROOT, tmp_path / "bertline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "ROOT", tmp_path / "bertline")
    yield tmp_path / "bertline"
    code.forget()


@pytest.fixture
def preempted() -> Iterator[Callable[[list[str], Path], int]]:
    """Runs words of the command line and sends SIGTERM after a further snapshot; returns the last step on disk."""
    before = signal.getsignal(signal.SIGTERM)

    def run(argv: list[str], work: Path) -> int:
        reached = max(snapshot_steps(work), default=0)

        def send() -> None:
            deadline = time.monotonic() + SECONDS
            while max(snapshot_steps(work), default=0) <= reached and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        sender = threading.Thread(target=send)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sender.start()
        assert main(argv) == PREEMPTED
        sender.join()
        assert snapshot_steps(work)[-1] > reached
        return snapshot_steps(work)[-1]

    yield run
    signal.signal(signal.SIGTERM, before)


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    code.forget()


@pytest.mark.slow
def test_an_interrupted_training_goes_on_unless_code_that_decides_its_weights_has_changed(
    tree: Path, preempted: Callable[[list[str], Path], int], pretrain_arguments, tmp_path: Path, capsys
) -> None:
    out, work = tmp_path / "out", tmp_path / "out.work"
    argv, network = pretrain_arguments(out), tree / "model" / "config.py"
    first = preempted(argv, work)

    replaced(network, "LAYER_NORM_EPSILON = 1e-12", "# A comment.\nLAYER_NORM_EPSILON = 1e-12")
    assert preempted(argv, work) > first

    replaced(network, "LAYER_NORM_EPSILON = 1e-12", "LAYER_NORM_EPSILON = 1e-11")
    capsys.readouterr()
    assert main(argv) == 2
    message = f"{work} holds an interrupted run of other code: bertline.model.config changed since; repeat that run"
    assert message in capsys.readouterr().err
    assert not out.exists()

    for snapshot in work.glob("snapshot-*"):  # as they were written up to 2026-11
        state = json.loads((snapshot / "training_state.json").read_text())
        del state["stage"]["code"]
        (snapshot / "training_state.json").write_text(json.dumps(state))
    preempted(argv, work)
    assert "the snapshot does not say which code began it" in capsys.readouterr().err
