"""Whatever a cluster answers, its verbs say what it was and end with exit code 2; they never hang."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from bertline.pipelines.cli.main import main
from bertline.pipelines.clusters import kubeflow_connection, vertex, vertex_connection
from bertline.pipelines.clusters.kubeflow import Kubeflow

VERBS = [["list"], ["status", "run-1"], ["schedules"], ["cancel", "run-1"]]
PAGE = b"<html>Sign in</html>"


class Answer(NamedTuple):
    code: int
    content: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    seconds: float = 0  # before it comes


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    """A server that gives one answer to all."""
    told = SimpleNamespace(answer=Answer(200, b"{}"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(told.answer.seconds)
            self.send_response(told.answer.code)
            for name, value in {**told.answer.headers, "Content-Length": str(len(told.answer.content))}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # nobody waits any more
                self.end_headers()
                self.wfile.write(told.answer.content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        told.url = f"http://localhost:{server.server_port}"
        yield told
        server.shutdown()


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("to", ["kfp", "vertex"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, PAGE), "another program: <html>Sign in|is the endpoint right"),
        (Answer(200, b""), "another program: nothing|is the endpoint right"),
        (Answer(200, b"null"), "another program: null|is the endpoint right"),
        (Answer(200, b'{"runs": [{'), "another program: {|is the endpoint right"),
        (Answer(302, b"", {"Location": "http://localhost:9/sign-in"}), "not reached"),
        (Answer(401, PAGE), "answers 401|no credentials"),
        (Answer(403, b'{"message": "no", "code": 7}'), "answers 403"),
        (Answer(404, PAGE), "answers 404|is not there"),
        (Answer(500, PAGE), "answers 500"),
        (Answer(200, b"{}", seconds=1), "not reached"),
    ],
)
def test_any_answer_is_told(
    answer: Answer, said: str, to: str, verb: list[str], service: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeflow_connection, "SECONDS", (1, 0.1))
    for module in (vertex, vertex_connection):
        monkeypatch.setattr(module, "SECONDS", 0.1)
    service.answer = answer
    where = {"kfp": ["--host"], "vertex": ["--project=p", "--region=us-central1", "--endpoint"]}[to]
    assert main([*verb, f"--to={to}", *where[:-1], f"{where[-1]}={service.url}"]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_runs_and_schedules_of_others_are_listed(service: Any) -> None:
    others = Kubeflow(service.url)
    theirs = {"parameters": {"moment": "noon", "schedule": {"name": "x"}, "store": 5}}
    lists = {
        "experiments": [{"experiment_id": "e"}],
        "runs": [{"run_id": "1", "display_name": "theirs", "runtime_config": theirs}],
        "recurringRuns": [
            {"display_name": "hourly", "trigger": {"periodic_schedule": {"interval_second": "3600"}}},
            {"display_name": "never"},
        ],
    }
    service.answer = Answer(200, json.dumps(lists).encode())
    assert [(state.run, state.store, state.noted_as) for state in others.list()] == [("theirs", "5", "")]
    assert [(state.name, state.cron) for state in others.list_schedules()] == [
        ("hourly", "every 3600 s"),
        ("never", "none"),
    ]
