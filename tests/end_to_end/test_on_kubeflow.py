"""The whole pipeline on a local Kubeflow Pipelines with its store in a local bucket, by the program alone."""

import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import kfp_server, storage_server
from fakes.kfp_server import KfpServer

SETTINGS = [
    *("--steps_128=4", "--steps_512=2", "--batch=4", "--vocab_size=1500", "--evaluate_examples=8"),
    *("--finetune_epochs=0.1", "--finetune_length=32", "--jit_compile=false", "--dupe_factor=1"),
]
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    (tmp_path / "served" / "b").mkdir(parents=True)
    (tmp_path / "kfp").mkdir()
    with storage_server.serving(tmp_path / "served") as bucket:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.url)
        monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "laptop"))
        with kfp_server.serving(tmp_path / "kfp", BERTLINE_CACHE=str(tmp_path / "node")) as server:
            monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
            monkeypatch.setenv("BERTLINE_IMAGE", "registry/bertline-python:1")
            yield server


@pytest.fixture
def bertline(tmp_path: Path) -> Program:
    def start(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bertline", *argv]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)

    return start


def submit(bertline: Program, *more: str) -> tuple[str, list[str], str]:
    """The run's name, its steps with what came of each, and all that was said."""
    ended = bertline("submit", "tiny", "--to=kfp", "--out=gs://b/team", *SETTINGS, *more, "--watch")
    assert ended.returncode == 0, ended.stderr
    (name,) = re.findall(r"^submitted: (\S+)$", ended.stdout, re.MULTILINE)
    return name, re.findall(r"^(\w+): (made before|made in)", ended.stderr, re.MULTILINE), ended.stderr


def fire_a_schedule(cluster: KfpServer, bertline: Program, store: Path) -> None:
    """On a Monday at 3:30 in Berlin; an hour before, which is refused; and on the next one, with no newer text."""
    when = ["--schedule=weekly", "--cron=30 3 * * 1", "--time_zone=Europe/Berlin", "--only_if_newer"]
    made = bertline("schedule", "tiny", "--to=kfp", "--out=gs://b/team", *SETTINGS, "--promotion=no_worse", *when)
    assert made.returncode == 0, made.stderr
    monday = datetime.datetime(2027, 1, 4, 2, 30, tzinfo=datetime.UTC)
    for hours in (0, -1, 7 * 24):
        run = cluster.fire("weekly", monday + datetime.timedelta(hours=hours))
        ended = bertline("status", run["run_id"], "--to=kfp", "--watch")
        assert ended.returncode == 0, ended.stderr
        assert ("export: made before" in ended.stderr) == (hours == 0)
    assert sorted(path.name for path in (store / "runs").glob("weekly-*")) == ["weekly-20270104-023000"]
    notes = [json.loads(path.read_text()) for path in (store / "runs" / "weekly-20270104-023000").glob("*.json")]
    assert len(notes) == 14 and all(note["reused"] for note in notes)
    decision = json.loads((store / "runs" / "weekly-20270104-023000" / "promotion" / "decision.json").read_text())
    assert decision["moved"] and decision["reason"] == "worse in nothing"
    assert len(list((store / "refs" / "text-weekly").iterdir())) == 1


@pytest.mark.slow
def test_the_tiny_graph_runs_and_a_second_run_makes_what_is_other(
    cluster: KfpServer, bertline: Program, tmp_path: Path
) -> None:
    first, made, _ = submit(bertline)
    assert {how for _, how in made} == {"made in"} and len(made) == 14
    again, made, _ = submit(bertline, "--finetune.learning_rate=1e-4")
    assert len(made) == 14
    assert {task for task, how in made if how == "made in"} == {"finetune_mrpc", "finetune_sst2"}
    names = [version["name"] for version in cluster.versions.values()]  # the first is the service's own of a pipeline
    assert [name.partition("-")[0] for name in names] == ["bertline", "sha256"], "the graph is sent once"

    shown = bertline("list", "--to=kfp").stdout
    assert first in shown and again in shown and "succeeded" in shown
    logs = bertline("logs", first, "--to=kfp", "--task=pretrain_512").stdout
    assert "==> pretrain_512." in logs and "training goes on" not in logs and "step 6" in logs
    served = tmp_path / "served" / "b" / "team" / "store"
    assert "<svg" in (served / "runs" / first / "lineage.html").read_text()
    note = json.loads((served / "runs" / first / "export.json").read_text())
    fetched = bertline("fetch", note["path"], "model")
    assert fetched.returncode == 0, fetched.stderr
    assert list((tmp_path / "model").rglob("model.safetensors"))
    fire_a_schedule(cluster, bertline, served)
    drawn = bertline("lineage", "--store=gs://b/team/store", "--out=lineage.html")
    assert drawn.returncode == 0 and "<svg" in (tmp_path / "lineage.html").read_text()
