"""Runs are submitted to Vertex AI by its own client, against a local server that speaks its API."""

import datetime
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertline.pipelines.clusters.schedule import Schedule
from bertline.pipelines.clusters.submission import RunState, Submission
from bertline.pipelines.clusters.vertex import Vertex
from fakes.vertex_server import VertexServer, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VertexServer]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def vertex(server: VertexServer) -> Vertex:
    return Vertex("project", "us-central1", "gs://bucket/vertex", endpoint=server.url)


def submission(graphs: dict[str, Path], graph: str, run: str, **more: Any) -> Submission:
    arguments = {"run": run, "settings": {"rate": 1e-4, "steps": 3}, "store": "gs://bucket/store", **more}
    return Submission(run, graphs[graph], f"sha256-{graph}", arguments)


def wait_for(vertex: Vertex, run: str) -> RunState:
    for _ in range(600):
        state = vertex.find(run)
        if state.has_ended:
            return state
        time.sleep(0.1)
    raise AssertionError(state)


def test_runs_are_followed_to_their_end(server: VertexServer, vertex: Vertex, graphs: dict[str, Path]) -> None:
    for run, graph in (("first", "well"), ("second", "well"), ("third", "badly")):
        state = vertex.submit(submission(graphs, graph, run))
        assert (state.run, state.state in ("PENDING", "RUNNING"), state.store) == (run, True, "gs://bucket/store")
    ended = {run: wait_for(vertex, run) for run in ("first", "second", "third")}
    assert [state.state for state in ended.values()] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert "ValueError" in ended["third"].error and not ended["first"].error
    assert ended["first"].finished > ended["first"].created
    assert ended["first"].page.endswith("/us-central1/pipelines/runs/first?project=project")
    assert list(vertex.list()) == [ended[run] for run in ("third", "second", "first")], "on two pages"
    assert vertex.find(ended["first"].id) == ended["first"]
    assert [(task.task, task.state) for task in vertex.list_tasks("first")] == [("step", "SUCCEEDED")]
    assert [(task.task, task.state) for task in vertex.list_tasks("third")] == [("step", "FAILED")]


def test_a_run_is_sent_with_what_it_acts_by(server: VertexServer, vertex: Vertex, graphs: dict[str, Path]) -> None:
    given = replace(
        vertex,
        service_account="runner@project.iam.gserviceaccount.com",
        network="projects/1/global/networks/inner",
        encryption_key="projects/project/locations/us-central1/keyRings/r/cryptoKeys/k",
        labels=("team=language",),
        failure_policy="fast",
    )
    job = server.jobs[given.submit(submission(graphs, "well", "run")).id]
    assert (job.service_account, job.network) == (given.service_account, given.network)
    assert job.encryption_spec.kms_key_name == given.encryption_key
    assert dict(job.labels) == {"experiment": "bertline", "team": "language", "version": "sha256-well"}
    assert job.runtime_config.failure_policy.name == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    assert job.runtime_config.gcs_output_directory == "gs://bucket/vertex"
    assert [state.run for state in vertex.list()] == ["run"]
    assert list(replace(vertex, experiment="other").list()) == []


def test_a_run_is_ended(server: VertexServer, vertex: Vertex, graphs: dict[str, Path]) -> None:
    vertex.submit(submission(graphs, "long", "run"))
    while not server.processes:
        time.sleep(0.01)
    assert vertex.cancel("run").state == "CANCELED"
    with pytest.raises(OSError, match=r"Vertex AI answers 400 .*run has ended"):
        vertex.cancel("run")


def test_a_name_is_taken_once(vertex: Vertex, graphs: dict[str, Path]) -> None:
    vertex.submit(submission(graphs, "well", "run"))
    with pytest.raises(FileExistsError, match="run is there already; give another name"):
        vertex.submit(submission(graphs, "well", "run"))
    with pytest.raises(FileNotFoundError, match="run other is not there"):
        vertex.find("other")


def test_what_the_service_refuses_is_said(vertex: Vertex, graphs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Vertex AI answers 400 .*unknown parameters: \['colour'\]"):
        vertex.submit(submission(graphs, "well", "run", colour="red"))
    with pytest.raises(ValueError, match="root is empty; give gs://BUCKET/FOLDER"):
        replace(vertex, root="").submit(submission(graphs, "well", "run"))
    with pytest.raises(ValueError, match='run is "Run_1"'):
        vertex.submit(submission(graphs, "well", "Run_1"))
    (tmp_path / "two.yaml").write_text("a: 1\n---\nb: 2\n")
    with pytest.raises(ValueError, match="a graph for Kubeflow; compile it with --platform=vertex"):
        vertex.submit(submission({"two": tmp_path / "two.yaml"}, "two", "run"))


def test_a_busy_service_is_asked_again_and_a_refusal_named(
    server: VertexServer, vertex: Vertex, graphs: dict[str, Path]
) -> None:
    vertex.submit(submission(graphs, "well", "run"))
    server.answers += [503]
    assert vertex.find("run").run == "run"
    server.answers += [403]
    with pytest.raises(
        OSError, match=r"projects/project/locations/us-central1: Vertex AI answers 403 .*as it was told"
    ):
        vertex.find("run")


def test_a_schedule_is_made_paused_resumed_and_deleted(
    server: VertexServer, vertex: Vertex, graphs: dict[str, Path]
) -> None:
    weekly = Schedule(
        "weekly", "30 3 * * 1", "Europe/Berlin", start="2027-01-01T00:00+01:00", max_concurrent=2, catch_up=True
    )
    made = vertex.schedule(weekly, submission(graphs, "well", "weekly"))
    assert (made.name, made.cron, made.state) == ("weekly", "TZ=Europe/Berlin 30 3 * * 1", "enabled")
    assert made.store == "gs://bucket/store"
    sent = server.schedules[made.id]
    assert sent.max_concurrent_run_count == 2
    assert sent.start_time.isoformat().startswith("2026-12-31T23:00:00")
    with pytest.raises(FileExistsError, match="a schedule is called weekly already"):
        vertex.schedule(weekly, submission(graphs, "well", "weekly"))
    for name in ("daily", "monthly"):
        vertex.schedule(Schedule(name, "0 4 * * *"), submission(graphs, "well", name))
    assert [each.name for each in vertex.list_schedules()] == ["weekly", "daily", "monthly"], "on two pages"
    assert vertex.pause("weekly").state == "disabled"
    assert vertex.resume("weekly").state == vertex.resume("daily").state == "enabled"
    assert server.resumed_with == [True, False]
    fired = server.fire("weekly", datetime.datetime(2027, 1, 4, 2, 30, tzinfo=datetime.UTC))
    assert wait_for(vertex, fired.name).state == "SUCCEEDED"
    vertex.unschedule("weekly")
    with pytest.raises(FileNotFoundError, match=r"no schedule is called weekly.* known: daily, monthly"):
        vertex.pause("weekly")


def test_a_region_that_is_none_is_named(vertex: Vertex, graphs: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r'region is "us-centrl1"; did you mean us-central1\?'):
        replace(vertex, region="us-centrl1").submit(submission(graphs, "well", "run"))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("root", "bucket/vertex", 'root is "bucket/vertex"; give gs://BUCKET/FOLDER'),
        ("project", "", "project is empty"),
        ("region", "", "region is empty"),
        ("labels", ("Team=A",), "label Team=A: names and values are of a-z"),
        ("failure_policy", "slowly", 'failure_policy is "slowly"'),
    ],
)
def test_settings_that_cannot_be_are_named(field: str, value: Any, named: str) -> None:
    settings = {"project": "project", "region": "us-central1", "root": "gs://bucket/vertex", field: value}
    with pytest.raises(ValueError, match=named):
        Vertex(**settings)


def test_a_host_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match="projects/project/locations/us-central1: not reached"):
        next(Vertex("project", "us-central1", "gs://bucket/vertex", endpoint="http://localhost:9").list())


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(OSError, match=r"no credentials that Google takes .*gcloud auth application-default login"):
        next(Vertex("project", "us-central1", "gs://bucket/vertex").list())
