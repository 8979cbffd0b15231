import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertline.components.artifacts import Recipe, Store, publish
from bertline.components.handover import RUN_PROCESS_VARIABLE, perform, run_notes, taken


@dataclass(frozen=True)
class Config:
    size: int = 3


def kfp_artifact(path: Path) -> SimpleNamespace:
    """What KFP gives a component: a path to write to, and metadata."""
    return SimpleNamespace(path=str(path), metadata={})


def make(store: Store):
    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "a.txt").write_text("text")
        return {"lines": 1}

    return publish(store, Recipe("texts", "write", {}, Config(), []), write)


def test_a_pointer_is_handed_over_and_leads_to_the_artifact(tmp_path: Path) -> None:
    output = kfp_artifact(tmp_path / "kfp" / "out")
    made = perform("write", str(tmp_path / "store"), "run-1", output, make)
    assert taken(output) == made.path
    assert output.metadata["parameter.size"] == 3
    assert output.metadata["count.lines"] == 1
    (note,) = run_notes(tmp_path / "store", "run-1")
    assert (note["task"], note["kind"], note["reused"]) == ("write", "texts", False)
    perform("write", str(tmp_path / "store"), "run-2", output, make)
    assert run_notes(tmp_path / "store", "run-2")[0]["reused"]


def test_an_artifact_that_changed_since_is_refused(tmp_path: Path) -> None:
    output = kfp_artifact(tmp_path / "out")
    made = perform("write", str(tmp_path / "store"), "run-1", output, make)
    manifest = made.path / "MANIFEST.json"
    manifest.write_text(json.dumps(made.manifest | {"digest": "sha256:0"}))
    with pytest.raises(ValueError, match="changed since its step was run"):
        taken(output)


def test_refused_input_ends_with_2_and_is_noted(tmp_path: Path) -> None:
    def refuse(store: Store):
        raise ValueError("dump.xml: cut short")

    with pytest.raises(SystemExit) as stopped:
        perform("ingest", str(tmp_path), "run-1", kfp_artifact(tmp_path / "out"), refuse)
    assert stopped.value.code == 2
    assert run_notes(tmp_path, "run-1") == [{"task": "ingest", "error": "dump.xml: cut short"}]


def test_a_step_ends_when_its_run_is_killed(tmp_path: Path) -> None:
    """Also behind a shell, as KFP starts it."""
    step = (
        "import sys, time\n"
        "from types import SimpleNamespace\n"
        "from bertline.components.handover import perform\n"
        "def make(store):\n"
        "    print('started', flush=True); time.sleep(60)\n"
        "perform('slow', sys.argv[1], 'run-1', SimpleNamespace(path=sys.argv[1] + '/out', metadata={}), make)\n"
    )
    run = subprocess.Popen(["sleep", "60"])
    environment = os.environ | {RUN_PROCESS_VARIABLE: str(run.pid)}
    command = ["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, step, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        run.send_signal(signal.SIGKILL)
        run.wait()
        before = time.monotonic()
        child.wait(timeout=20)
        assert time.monotonic() - before < 10
