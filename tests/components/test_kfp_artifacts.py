import json
import platform
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertline.components.kfp_artifacts import STEPS_VARIABLE, follow, perform, read_run_notes
from bertline.components.store.artifacts import Provenance, Store, publish
from bertline.components.store.folder import Folder
from bertline.preemption import PreemptedError


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

    return publish(store, Provenance("texts", "write", {}, Config(), []), write)


def test_a_pointer_is_handed_over_and_leads_to_the_artifact(tmp_path: Path) -> None:
    output = kfp_artifact(tmp_path / "kfp" / "out")
    made = perform("write", str(tmp_path / "store"), "run-1", output, make)
    assert follow(output, Store(tmp_path / "store")) == made.path
    assert output.metadata["parameter.size"] == 3
    assert output.metadata["count.lines"] == 1
    assert output.metadata["label"] == "texts"
    assert output.metadata["version.python"] == platform.python_version()
    (note,) = read_run_notes(Folder(tmp_path / "store"), "run-1")
    assert (note["task"], note["kind"], note["reused"]) == ("write", "texts", False)
    perform("write", str(tmp_path / "store"), "run-2", output, make)
    assert read_run_notes(Folder(tmp_path / "store"), "run-2")[0]["reused"]


def test_a_run_on_this_machine_says_which_of_its_steps_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(STEPS_VARIABLE, "14")
    for task in ("prepare_128", "heldout_128"):
        perform(task, str(tmp_path / "store"), "run-1", kfp_artifact(tmp_path / "kfp" / task), make)
    said = capsys.readouterr().err.splitlines()
    assert said[::2] == ["step 1 of 14: prepare_128", "step 2 of 14: heldout_128"]


def test_an_artifact_that_changed_since_is_refused(tmp_path: Path) -> None:
    output = kfp_artifact(tmp_path / "out")
    made = perform("write", str(tmp_path / "store"), "run-1", output, make)
    manifest = made.path / "MANIFEST.json"
    manifest.write_text(json.dumps(made.manifest | {"digest": "sha256:0"}))
    with pytest.raises(ValueError, match="changed since its step was run"):
        follow(output, Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("error", "code", "notes"),
    [
        (ValueError("dump.xml: cut short"), 2, [{"task": "ingest", "error": "dump.xml: cut short"}]),
        (PreemptedError("ended at step 3 by SIGTERM"), 75, []),
    ],
)
def test_refused_input_ends_with_2_and_is_noted_and_sigterm_in_a_training_with_75(
    error: BaseException, code: int, notes: list[dict[str, str]], tmp_path: Path
) -> None:
    def end(store: Store):
        raise error

    with pytest.raises(SystemExit) as stopped:
        perform("ingest", str(tmp_path), "run-1", kfp_artifact(tmp_path / "out"), end)
    assert stopped.value.code == code
    assert read_run_notes(Folder(tmp_path), "run-1") == notes
