"""Runs on a cluster are submitted, followed and ended by verbs, against a local Kubeflow Pipelines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from bertline.components.store.artifacts import Store
from bertline.components.store.step_log import keeping_log
from bertline.pipelines.cli.main import main
from bertline.pipelines.clusters import cluster_verbs
from bertline.pipelines.clusters.kubeflow import Kubeflow
from bertline.pipelines.clusters.submission import Submission
from fakes.kfp_server import KfpServer, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    (tmp_path / "kfp").mkdir()
    with serving(tmp_path / "kfp") as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        monkeypatch.setattr(cluster_verbs, "SECONDS_BETWEEN_LOOKS", 0.05)
        yield server


@pytest.fixture
def submitted(server: KfpServer, tmp_path: Path) -> Any:
    """Starts a run of one step, which waits for a file and then ends well or badly; its store has a note and a log."""

    def step(store: str) -> None:
        import pathlib
        import time

        while not pathlib.Path(store, "end").exists():
            time.sleep(0.05)
        assert pathlib.Path(store, "end").read_text() == "well"

    source = tmp_path / "step.py"
    (tmp_path / "store").mkdir()
    component = dsl.component(step, base_image="bertline-python:latest", install_kfp_package=False)

    @dsl.pipeline(name="graph")
    def graph(store: str) -> None:
        component(store=store)

    compiler.Compiler().compile(graph, str(source.with_suffix(".yaml")))
    store = Store(tmp_path / "store")
    note = {"task": "split", "kind": "sentences", "fingerprint": "abc", "reused": False, "seconds": 2.5}
    store.write_note("runs/run-1/split.json", json.dumps(note))
    with keeping_log(store, "run-1", "split"):
        print("split: 100 sentences")
    Kubeflow(server.url).submit(
        Submission("run-1", source.with_suffix(".yaml"), "sha256-1", {"store": str(tmp_path / "store")})
    )
    return lambda how: (tmp_path / "store" / "end").write_text(how)


def test_what_would_be_sent_is_shown_and_nothing_is_sent(
    server: KfpServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["submit", "tiny", "--to=kfp", "--out=/mounted", "--dump=/mounted/a.xml", "--books=", "--task="]
    assert main([*argv, "--steps_128=7", "--dry_run"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert sent["arguments"]["store"] == "/mounted/store"
    assert sent["arguments"]["pretrain_128"]["stop_at_step"] == 7
    assert sent["version of the graph"].startswith("sha256-")
    assert not server.requests


@pytest.mark.parametrize(("how", "code", "state"), [("well", 0, "succeeded"), ("badly", 1, "failed")])
def test_a_run_is_watched_to_its_end(
    how: str, code: int, state: str, submitted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "run-1", "--to=kfp"]) == 0
    shown = capsys.readouterr().out
    assert "RUNNING" in shown or "PENDING" in shown
    assert "made in 2.5 s" in shown
    submitted(how)
    assert main(["status", "run-1", "--to=kfp", "--watch"]) == code
    said = capsys.readouterr().err
    assert "split: made in 2.5 s: sentences/abc\n" in said and f"run-1: {state}\n" in said
    assert ("AssertionError" in said) == (how == "badly")
    assert main(["list", "--to=kfp"]) == 0
    assert state in capsys.readouterr().out
    assert main(["logs", "run-1", "--to=kfp", "--watch"]) == 0
    assert "split: 100 sentences\n" in capsys.readouterr().out
    assert main(["logs", "run-1", "--to=kfp", "--task=vocabulary"]) == 0
    assert "run-1: no vocabulary has said anything yet" in capsys.readouterr().err


def test_a_run_is_cancelled(submitted: Any, server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    while not server.processes:
        pass
    assert main(["cancel", "run-1", "--to=kfp"]) == 0
    assert capsys.readouterr().out == "run-1: canceled\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["status", "run-2", "--to=kfp"], "no run is called run-2; `bertline list` names them"),
        (["status", "run-2", "--to=kfp", "--host=http://localhost:9"], "http://localhost:9: not reached"),
        (["list", "--to=kfp", "--host="], "--host is missing"),
        (["submit", "tiny", "--to=kfp", "--out=out"], "out: of this machine; give gs://BUCKET/FOLDER"),
        (["submit", "tiny", "--to=kfp", "--out=gs://b", "--steps_128=0"], "steps_128 is 0"),
    ],
)
def test_what_cannot_be_is_named(
    argv: list[str], said: str, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert said in capsys.readouterr().err
