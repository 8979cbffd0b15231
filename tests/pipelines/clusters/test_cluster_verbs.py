"""Runs on a cluster are submitted, followed and ended by verbs, against a local Kubeflow Pipelines."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from bertline.components.store.artifacts import Store
from bertline.components.store.step_log import keeping_log
from bertline.pipelines.cli.main import main
from bertline.pipelines.cli.verbs import FlagParser
from bertline.pipelines.clusters import cluster_verbs
from bertline.pipelines.clusters.cluster_flags import open_cluster
from bertline.pipelines.clusters.cluster_verbs import SUBMIT
from bertline.pipelines.clusters.kubeflow import Kubeflow
from bertline.pipelines.clusters.submission import Submission
from bertline.pipelines.clusters.vertex import Vertex
from fakes import kfp_server, vertex_server

IMAGE = "--image=registry/bertline-python:1"
SENT = ["submit", "tiny", "--to=kfp", "--host=http://localhost:9", "--out=/mounted", "--dump=/mounted/a.xml", IMAGE]


@pytest.fixture(params=["kfp", "vertex"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local service, and the flags that name it."""
    monkeypatch.setattr(cluster_verbs, "SECONDS_BETWEEN_LOOKS", 0.05)
    (tmp_path / "service").mkdir()
    fake = kfp_server if request.param == "kfp" else vertex_server
    with fake.serving(tmp_path / "service") as server:
        flags = {"kfp": ["--host"], "vertex": ["--project=p", "--region=us-central1", "--endpoint"]}[request.param]
        yield server, [f"--to={request.param}", *flags[:-1], f"{flags[-1]}={server.url}"]


@pytest.fixture
def submitted(cluster: Any, tmp_path: Path) -> Any:
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
    server, (to, *_) = cluster
    service = Kubeflow(server.url) if to == "--to=kfp" else Vertex("p", "us-central1", "gs://b", endpoint=server.url)
    arguments = {"store": str(tmp_path / "store")}
    service.submit(Submission("run-1", source.with_suffix(".yaml"), "sha256-1", arguments))
    return lambda how: (tmp_path / "store" / "end").write_text(how)


def test_what_would_be_sent_is_shown_and_nothing_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text("steps_128 = 7\n[resources.pretrain]\nspot = true\n")
    argv = ["submit", "tiny", "--out=/mounted", "--dump=/mounted/a.xml", "--books=", "--task=", "--dry_run", IMAGE]
    more = ["--config=settings.toml", "--resources.pretrain_512.memory_gb=77", "--to=kfp", "--host=http://localhost:9"]
    assert main([*argv, *more]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert sent["arguments"]["store"] == "/mounted/store"
    assert sent["arguments"]["pretrain_128"]["stop_at_step"] == 7
    assert [sent["arguments"][step]["num_workers"] for step in ("ingest", "split", "heldout_512")] == [4, 4, 4]
    assert sent["version of the graph"].startswith("sha256-")
    graph = (tmp_path / sent["graph"]).read_text()
    assert "cloud.google.com/gke-spot" in graph and "77.0" in graph
    assert set(re.findall(r"image: (\S+)", graph)) == {"registry/bertline-python:1"}


@pytest.mark.parametrize(("how", "code", "state"), [("well", 0, "succeeded"), ("badly", 1, "failed")])
def test_a_run_is_watched_to_its_end(
    how: str, code: int, state: str, submitted: Any, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    where = cluster[1]
    assert main(["status", "run-1", *where]) == 0
    shown = capsys.readouterr().out
    assert "RUNNING" in shown or "PENDING" in shown
    assert "made in 2.5 s" in shown
    submitted(how)
    assert main(["status", "run-1", *where, "--watch"]) == code
    said = capsys.readouterr().err
    assert "split: made in 2.5 s: sentences/abc\n" in said and f"run-1: {state}\n" in said
    assert ("AssertionError" in said) == (how == "badly")
    assert main(["list", *where]) == 0
    assert state in capsys.readouterr().out
    assert main(["logs", "run-1", *where, "--watch"]) == 0
    assert "split: 100 sentences\n" in capsys.readouterr().out
    assert main(["logs", "run-1", *where, "--task=vocabulary"]) == 0
    assert "run-1: no vocabulary has said anything yet" in capsys.readouterr().err


def test_a_run_is_cancelled(submitted: Any, cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server, where = cluster
    capsys.readouterr()
    while not server.processes:
        pass
    assert main(["cancel", "run-1", *where]) == 0
    assert capsys.readouterr().out == "run-1: canceled\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["list", "--to=vertex", "--project=p"], "--region is missing; give it, or set the variable"),
        (["list", "--to=kfp", "--host="], "--host is missing"),
        (["list", "--to=kfp", "--host=http://localhost:9", "--last=-1"], "last is -1; it must be at least 1"),
        (["status", "run-2", "--to=kfp", "--host=http://localhost:9"], "http://localhost:9: not reached"),
        ([*SENT[:2], "--to=vertex", "--project=p", "--region=us-central1", *SENT[4:]], 'root is "/mounted/vertex"'),
        ([*SENT, "--resources.pretrain.accelerator=tpu-v9"], "tpu-v9"),
        ([*SENT, "--out=out"], "out: of this machine; give gs://BUCKET/FOLDER"),
        (SENT[:-1], "--image is missing; give it, or set the variable BERTLINE_IMAGE"),
        ([*SENT, "--steps_128=0"], "steps_128 is 0"),
        ([*SENT, "--encryption_key=k"], "--encryption_key is for Vertex AI; Kubeflow Pipelines has none"),
        ([*SENT, "--label=a=b"], "--label is for Vertex AI"),
    ],
)
def test_what_cannot_be_is_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert said in capsys.readouterr().err


def test_flags_of_vertex_reach_it() -> None:
    flags = FlagParser()
    SUBMIT.add_flags(flags)
    given = ["--project=p", "--region=us-central1", "--network=n", "--encryption_key=k", "--failure_policy=fast"]
    vertex = open_cluster(flags.parse_args(["tiny", "--to=vertex", "--out=gs://b/team", "--service_account=s", *given]))
    assert isinstance(vertex, Vertex)
    assert (vertex.network, vertex.encryption_key, vertex.failure_policy) == ("n", "k", "fast")
    assert (vertex.service_account, vertex.root) == ("s", "gs://b/team/vertex")


def test_an_unknown_step_of_resources_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SENT, "--resources.pretrian.spot=true"])
    assert ended.value.code == 2
    assert "did you mean resources.pretrain?" in capsys.readouterr().err
