"""Kubeflow Pipelines' REST API (v2beta1) on this machine, as its Python client speaks it; kfp.local executes the runs.

What comes and what is answered is held against the client's own models: an unknown field is refused, as by the service.
"""

import datetime
import email.parser
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from fakes.graph_runs import RunServer, served

API = "/apis/v2beta1"
CRON_FIELDS = 6  # seconds first
MOST_AT_ONCE = 10
Document = dict[str, Any]


class RefusedError(Exception):
    """What the server answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KfpServer(RunServer):
    """One namespace."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(Connection, folder, environment)
        self.experiments: dict[str, Document] = {}
        self.pipelines: dict[str, Document] = {}
        self.versions: dict[str, Document] = {}
        self.runs: dict[str, Document] = {}
        self.recurring: dict[str, Document] = {}

    def create_run(self, run: Document) -> Document:
        require_model("V2beta1Run", run)
        spec = self._find_spec(run)
        made = {**run, "run_id": str(uuid.uuid4()), "created_at": _now(), "state": "PENDING"}
        self.runs[made["run_id"]] = made
        threading.Thread(target=self._execute, args=(made, spec), daemon=True).start()
        return made

    def _find_spec(self, run: Document) -> list[Document]:
        if "pipeline_spec" in run:
            return _documents(run["pipeline_spec"])
        reference = run["pipeline_version_reference"]
        return _documents(_get(self.versions, reference.get("pipeline_version_id", ""))["pipeline_spec"])

    def _execute(self, run: Document, spec: list[Document]) -> None:
        run["state"] = "RUNNING"
        graph = yaml.safe_dump_all(spec[:1])  # kfp.local has no use for the platform's
        code, said = self.execute(run["run_id"], graph, run.get("runtime_config", {}).get("parameters", {}))
        if run["state"] != "CANCELED":
            run["state"] = "FAILED" if code else "SUCCEEDED"
        run["finished_at"] = _now()
        if code:
            run["error"] = {"code": 2, "message": said[-2000:]}

    def terminate(self, run_id: str) -> Document:
        run = _get(self.runs, run_id)
        if run["state"] in ("PENDING", "RUNNING"):
            run["state"] = "CANCELED"
            self.processes[run_id].terminate()
        return {}

    def create_recurring(self, recurring: Document) -> Document:
        require_model("V2beta1RecurringRun", recurring)
        cron = recurring.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if cron and len(cron.split()) != CRON_FIELDS:
            raise RefusedError(400, f'cron "{cron}" has {len(cron.split())} fields, not {CRON_FIELDS}, seconds first')
        if not 1 <= int(recurring.get("max_concurrency", 1)) <= MOST_AT_ONCE:
            raise RefusedError(400, f"max_concurrency must be 1 to {MOST_AT_ONCE}")
        self._find_spec(recurring)
        made = {**recurring, "recurring_run_id": str(uuid.uuid4()), "created_at": _now(), "status": "ENABLED"}
        self.recurring[made["recurring_run_id"]] = made
        return made

    def fire(self, name: str, moment: datetime.datetime) -> Document:
        """Begin the run of a schedule that is due then, as the service's controller does."""
        (recurring,) = (each for each in self.recurring.values() if each["display_name"] == name)
        if recurring["status"] != "ENABLED":
            raise RefusedError(400, f"{name} is {recurring['status']}")
        told = json.dumps(recurring["runtime_config"]).replace("[[ScheduledTime]]", moment.strftime("%Y%m%d%H%M%S"))
        run = {
            "display_name": f"{name}-{len(self.runs) + 1}",
            "experiment_id": recurring["experiment_id"],
            "pipeline_version_reference": recurring["pipeline_version_reference"],
            "runtime_config": json.loads(told),
            "recurring_run_id": recurring["recurring_run_id"],
        }
        return self.create_run(run)

    def upload(self, name: str, content: bytes, kind: str, pipeline_id: str = "") -> Document:
        documents = list(yaml.safe_load_all(_read_file(kind, content)))
        _require_spec(documents[0])
        if not pipeline_id:
            if any(each["name"] == name for each in self.pipelines.values()):
                raise RefusedError(409, f'a pipeline called "{name}" is there already')
            pipeline_id = str(uuid.uuid4())
            self.pipelines[pipeline_id] = {
                "pipeline_id": pipeline_id, "name": name, "display_name": name, "created_at": _now(),
            }  # fmt: skip
        elif any(each["name"] == name for each in self.versions.values() if each["pipeline_id"] == pipeline_id):
            raise RefusedError(409, f'a version called "{name}" is there already')
        _get(self.pipelines, pipeline_id)
        spec = documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}
        version_id = str(uuid.uuid4())
        self.versions[version_id] = {
            "pipeline_id": pipeline_id, "pipeline_version_id": version_id, "name": name, "display_name": name,
            "created_at": _now(), "pipeline_spec": spec,
        }  # fmt: skip
        return self.versions[version_id]


class Connection(BaseHTTPRequestHandler):
    """One connection."""

    server: KfpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer_request(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path))
        try:
            self.send(200, self.answer(content))
        except RefusedError as error:
            self.send(error.code, {"code": error.code, "message": str(error)})

    do_GET = do_POST = do_DELETE = answer_request  # noqa: N815

    def answer(self, content: bytes) -> Document:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix(API).strip("/").replace(":", "/")
        if path.startswith("pipelines/upload"):
            kind, is_version = self.headers["Content-Type"], path.endswith("upload_version")
            made = self.server.upload(query["name"], content, kind, query["pipelineid"] if is_version else "")
            return made if is_version else self.server.pipelines[made["pipeline_id"]]
        for (method, pattern), act in ROUTES.items():
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                return act(self.server, found.groups(), query, json.loads(content or b"{}"))
        raise RefusedError(404, f"{self.command} {self.path}: not served here")

    def send(self, code: int, told: Document) -> None:
        content = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _create_experiment(server: KfpServer, ids: tuple[str, ...], query: Document, about: Document) -> Document:
    require_model("V2beta1Experiment", about)
    if any(each["display_name"] == about["display_name"] for each in server.experiments.values()):
        raise RefusedError(409, f'an experiment called "{about["display_name"]}" is there already')
    made = {**about, "experiment_id": str(uuid.uuid4()), "created_at": _now(), "storage_state": "AVAILABLE"}
    server.experiments[made["experiment_id"]] = made
    return made


def _list(name: str, key: str = "") -> Callable[..., Document]:
    """Answers with a page of what the server has under a name, filtered as the client asks."""

    def answer(server: KfpServer, ids: tuple[str, ...], query: Document, about: Document) -> Document:
        found = list(getattr(server, name).values())
        if ids:
            found = [each for each in found if each["pipeline_id"] == ids[0]]
        if "experiment_id" in query:
            found = [each for each in found if each.get("experiment_id") == query["experiment_id"]]
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            wanted = predicate.get("string_value", predicate.get("stringValue"))
            keys = ("display_name", "name") if predicate["key"] in ("name", "display_name") else (predicate["key"],)
            found = [each for each in found if wanted in [each.get(each_key) for each_key in keys]]
        found.sort(key=lambda each: each["created_at"], reverse="desc" in query.get("sort_by", ""))
        first, size = int(query.get("page_token") or 0), int(query.get("page_size") or 10)
        rest = {"next_page_token": str(first + size)} if len(found) > first + size else {}
        return {key or name: found[first : first + size], "total_size": len(found), **rest}

    return answer


def _find(name: str) -> Callable[..., Document]:
    return lambda server, ids, query, about: _get(getattr(server, name), ids[-1])


def _set_status(status: str) -> Callable[..., Document]:
    def answer(server: KfpServer, ids: tuple[str, ...], query: Document, about: Document) -> Document:
        _get(server.recurring, ids[0])["status"] = status
        return {}

    return answer


def _delete_recurring(server: KfpServer, ids: tuple[str, ...], query: Document, about: Document) -> Document:
    _get(server.recurring, ids[0])
    del server.recurring[ids[0]]
    return {}


ID = "([^/]+)"
ROUTES: dict[tuple[str, str], Callable[..., Document]] = {
    ("GET", "healthz"): lambda *_: {"multi_user": False},
    ("POST", "experiments"): _create_experiment,
    ("GET", "experiments"): _list("experiments"),
    ("GET", f"experiments/{ID}"): _find("experiments"),
    ("GET", "pipelines"): _list("pipelines"),
    ("GET", f"pipelines/{ID}"): _find("pipelines"),
    ("GET", f"pipelines/{ID}/versions"): _list("versions", "pipeline_versions"),
    ("GET", f"pipelines/{ID}/versions/{ID}"): _find("versions"),
    ("POST", "runs"): lambda server, ids, query, about: server.create_run(about),
    ("GET", "runs"): _list("runs"),
    ("GET", f"runs/{ID}"): _find("runs"),
    ("POST", f"runs/{ID}/terminate"): lambda server, ids, query, about: server.terminate(ids[0]),
    ("POST", "recurringruns"): lambda server, ids, query, about: server.create_recurring(about),
    ("GET", "recurringruns"): _list("recurring", "recurringRuns"),
    ("GET", f"recurringruns/{ID}"): _find("recurring"),
    ("DELETE", f"recurringruns/{ID}"): _delete_recurring,
    ("POST", f"recurringruns/{ID}/enable"): _set_status("ENABLED"),
    ("POST", f"recurringruns/{ID}/disable"): _set_status("DISABLED"),
}


def require_model(name: str, document: Any) -> None:
    """Refuse fields that a model of the API does not have, and values that are none of its enumeration."""
    if found := re.fullmatch(r"list\[(.+)\]", name):
        for each in document:
            require_model(found[1], each)
        return
    model = getattr(kfp_server_api, name, None)
    if model is None:  # str, int, datetime, object
        return
    if not model.openapi_types:
        if document not in model.allowable_values:
            raise RefusedError(400, f"{document!r} is none of {model.allowable_values}")
        return
    types = {model.attribute_map[key]: kind for key, kind in model.openapi_types.items()}
    for key, value in document.items():
        if key not in types:
            raise RefusedError(400, f'{name} has no field "{key}"')
        require_model(types[key], value)


def _get(things: Mapping[str, Document], name: str) -> Document:
    if name not in things:
        raise RefusedError(404, f"{name}: not found")
    return things[name]


def _documents(spec: Document) -> list[Document]:
    return [spec["pipeline_spec"], spec["platform_spec"]] if "platform_spec" in spec else [spec]


def _require_spec(document: Document) -> None:
    try:
        json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusedError(400, f"not a pipeline: {error}") from error


def _read_file(kind: str, content: bytes) -> bytes:
    """The one file of a form."""
    form = email.parser.BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
    (part,) = [part for part in form.get_payload() if part.get_filename()]  # type: ignore[union-attr]
    return part.get_payload(decode=True)  # type: ignore[return-value]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def serving(folder: Path, **environment: str) -> AbstractContextManager[KfpServer]:
    """A server whose runs work below the folder, for as long as the block lasts."""
    return served(KfpServer(folder, environment))
