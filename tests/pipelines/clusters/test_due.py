"""A schedule's run begins when it is due and has new text, and its end is told."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.store.remote import open_store
from bertline.components.store.step_log import read_logs
from bertline.pipelines.clusters import due
from bertline.pipelines.clusters.due import look, note, require_webhook, tell
from bertline.pipelines.clusters.schedule import Schedule

SCHEDULE = asdict(Schedule("weekly", "30 3 * * 1", "Europe/Berlin"))
MONDAY, HOUR_BEFORE = "20270104023000", "20270104013000"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("a")
    return tmp_path / "text.txt"


@pytest.mark.parametrize(
    ("moment", "run"),
    [
        (MONDAY, "weekly-20270104-023000"),
        ("2027-07-05T01:30:00Z", "weekly-20270705-013000"),
        (HOUR_BEFORE, ""),
    ],
)
def test_only_the_times_of_the_schedule_pass(moment: str, run: str, text: Path, tmp_path: Path) -> None:
    assert look(str(tmp_path / "store"), SCHEDULE, moment, {"text": str(text)}, False) == run


def test_notes_are_found_by_the_clusters_own_name_of_a_run(text: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    job = "projects/1/locations/us-central1/pipelineJobs/scheduled-77"
    run = look(str(store.root), SCHEDULE, MONDAY, {"text": str(text)}, False, job)
    store.write_note(f"runs/{run}/split.json", '{"task": "split"}')
    store.write_note(f"runs/{run}/logs/split.20270104-023000-000000.log", "all split")
    for name in (run, "scheduled-77"):
        assert read_run_notes(store.objects, name) == [{"task": "split"}]
        assert [said for _, said in read_logs(store.objects, name)] == ["all split"]


def test_text_is_newer_when_a_file_of_it_is_another(text: Path, tmp_path: Path) -> None:
    store, given = str(tmp_path / "store"), {"text": str(text), "books": ""}
    run = look(store, SCHEDULE, MONDAY, given, True)
    assert run and look(store, SCHEDULE, MONDAY, given, True) == run, "no run has ended yet"
    note(store, SCHEDULE, run)
    assert look(store, SCHEDULE, MONDAY, given, True) == ""
    assert look(store, SCHEDULE, MONDAY, given, False) == run
    text.write_text("ab")
    assert look(store, SCHEDULE, MONDAY, given, True) == run


def test_a_missing_text_ends_the_step_as_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        look(str(tmp_path / "store"), SCHEDULE, MONDAY, {"text": str(tmp_path / "none.txt")}, True)
    assert ended.value.code == 2
    assert "none.txt" in capsys.readouterr().err


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook, and what came to it."""
    came: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(0.5 if self.path.endswith("slow") else 0)
            self.send_response(500 if self.path.endswith("refused") else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("localhost", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://localhost:{server.server_port}/hook", came
        server.shutdown()


@pytest.mark.parametrize("path", ["refused", "slow", None])
def test_a_webhook_that_takes_nothing_is_said(
    path: str | None, hook: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "SECONDS_TO_TELL", 0.2)
    url = "http://localhost:9/secret" if path is None else f"{hook[0]}/{path}"
    with pytest.raises(SystemExit) as ended:
        tell("gs://b/store", SCHEDULE, url, "SUCCEEDED", "job-1", "")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "error: the webhook was not told: " in said and "secret" not in said


@pytest.mark.parametrize("url", ["hook", "ftp://host/hook", "http://", "https:///hook", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        require_webhook(url)


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [("SUCCEEDED", "", "weekly: succeeded"), ("FAILED", "no such dump", "weekly: failed (no such dump)")],
)
def test_the_end_is_told(state: str, error: str, said: str, hook: Any) -> None:
    url, came = hook
    tell("gs://b/store", SCHEDULE, url, state, "job-1", error)
    assert came == [
        {"schedule": "weekly", "state": state, "job": "job-1", "error": error, "store": "gs://b/store", "text": said}
    ]
