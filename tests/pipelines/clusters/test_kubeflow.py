"""Runs are submitted to Kubeflow Pipelines by its own client, against a local server that speaks its API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertline.pipelines.clusters.kubeflow import Kubeflow
from bertline.pipelines.clusters.submission import Submission
from fakes.kfp_server import KfpServer, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KfpServer]:
    with serving(tmp_path) as server:
        yield server


def submission(graphs: dict[str, Path], graph: str, run: str) -> Submission:
    return Submission(run, graphs[graph], f"sha256-{graph}", {"run": run, "settings": {"rate": 1e-4, "steps": 3}})


def wait_for(kubeflow: Kubeflow, run: str) -> Any:
    return kubeflow.client.wait_for_run_completion(kubeflow.find(run).id, timeout=120, sleep_duration=0.2)


def test_a_graph_is_uploaded_once_and_its_runs_are_followed(server: KfpServer, graphs: dict[str, Path]) -> None:
    kubeflow = Kubeflow(server.url)
    for run, graph in (("first", "well"), ("second", "well"), ("third", "badly")):
        assert kubeflow.submit(submission(graphs, graph, run)).run == run
        wait_for(kubeflow, run)
    assert {state.run: state.state for state in kubeflow.list()} == {
        "first": "SUCCEEDED",
        "second": "SUCCEEDED",
        "third": "FAILED",
    }
    assert [each["name"] for each in server.versions.values()] == [
        "bertline-pretraining",
        "sha256-well",
        "sha256-badly",
    ]
    assert "ValueError" in kubeflow.find("third").error
    with pytest.raises(FileNotFoundError, match="no run is called fourth"):
        kubeflow.find("fourth")


def test_a_run_acts_by_the_given_account(server: KfpServer, graphs: dict[str, Path]) -> None:
    Kubeflow(server.url, service_account="trainer").submit(submission(graphs, "well", "run"))
    Kubeflow(server.url).submit(submission(graphs, "well", "other"))
    assert [run.get("service_account") for run in server.runs.values()] == ["trainer", None]


def test_a_run_is_ended(server: KfpServer, graphs: dict[str, Path]) -> None:
    kubeflow = Kubeflow(server.url)
    kubeflow.submit(submission(graphs, "long", "run"))
    while not server.processes:
        pass
    assert kubeflow.cancel("run").state == "CANCELED"


def test_a_host_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match="http://localhost:9: not reached"):
        next(Kubeflow("http://localhost:9").list())
