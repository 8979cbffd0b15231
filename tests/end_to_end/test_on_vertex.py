"""The whole pipeline on a local Vertex AI with its store in a local bucket."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.store.remote import open_store
from bertline.pipelines.clusters.schedule import Schedule
from bertline.pipelines.clusters.submission import RunState, prepare_schedule, prepare_submission
from bertline.pipelines.clusters.vertex import Vertex
from bertline.pipelines.platforms import VERTEX
from bertline.pipelines.recipes import RUNS
from fakes import storage_server, vertex_server
from fakes.vertex_server import VertexServer

RUN = dataclasses.replace(
    RUNS["tiny"],
    steps_128=4,
    steps_512=2,
    batch=4,
    vocab_size=1500,
    evaluate_examples=8,
    finetune_epochs=0.1,
    finetune_length=32,
    jit_compile=False,
    dupe_factor=1,
    tasks=(),
)
OUT = "gs://b/team"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VertexServer]:
    for folder in ("served/b", "vertex"):
        (tmp_path / folder).mkdir(parents=True)
    with storage_server.serving(tmp_path / "served") as bucket:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.url)
        monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "laptop"))
        with vertex_server.serving(tmp_path / "vertex", BERTLINE_CACHE=str(tmp_path / "node")) as server:
            yield server


def wait_for(vertex: Vertex, run: str) -> RunState:
    for _ in range(600):
        state = vertex.find(run)
        if state.has_ended:
            return state
        time.sleep(1)
    raise AssertionError(state)


def read_notes(store: Path, run: str) -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in (store / "runs" / run).glob("*.json")}


@pytest.mark.slow
def test_the_tiny_graph_runs_and_a_schedule_finds_it_made(cluster: VertexServer, tmp_path: Path) -> None:
    vertex, store = (
        Vertex("project", "us-central1", f"{OUT}/vertex", endpoint=cluster.url),
        tmp_path / "served/b/team/store",
    )
    sent = prepare_submission("tiny", RUN, OUT, VERTEX, tmp_path / "graph")
    vertex.submit(sent)
    ended = wait_for(vertex, sent.run)
    assert ended.state == "SUCCEEDED", ended.error
    notes = read_notes(store, sent.run)
    assert {"ingest", "pretrain_512", "evaluate_512", "export"} <= set(notes)
    assert not any(note["reused"] for note in notes.values())
    assert "<svg" in (store / "runs" / sent.run / "lineage.html").read_text()
    assert {task.state for task in vertex.list_tasks(sent.run)} == {"SUCCEEDED"}

    weekly = Schedule("weekly", "30 3 * * 1", "Europe/Berlin")
    more = {"moment": vertex.moment, "only_if_newer": True, "webhook": ""}
    vertex.schedule(weekly, prepare_schedule(weekly, RUN, OUT, VERTEX, tmp_path / "graph", **more))
    monday = datetime.datetime(2027, 1, 4, 2, 30, tzinfo=datetime.UTC)
    for week in (0, 1):
        run = cluster.fire("weekly", monday + datetime.timedelta(weeks=week))
        ended = wait_for(vertex, run.name)
        assert ended.state == "SUCCEEDED", ended.error
        found = [note["task"] for note in read_run_notes(open_store(ended.store).objects, ended.run)]
        assert ("export" in found) == (week == 0), "by the service's own name of the run"
    notes = read_notes(store, "weekly-20270104-023000")
    assert all(note["reused"] for note in notes.values()) and "export" in notes
    assert not (store / "runs" / "weekly-20270111-023000").exists(), "no text is newer"
