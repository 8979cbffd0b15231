"""Vertex AI's services of pipelines and schedules on this machine, as their client speaks them over REST.

What comes is read into the client's own messages, which refuse unknown fields; kfp.local executes the runs. What the
real service would answer is held to as far as its reference says so: names, labels, parameters, cron.
"""

import datetime
import json
import re
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import proto
import yaml
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import field_mask_pb2, json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from kfp.pipeline_spec import pipeline_spec_pb2

from fakes.graph_runs import RunServer, served

PLACE = "projects/[^/]+/locations/[^/]+"
FIRED, JOB = "{{$.pipeline_job_schedule_time_utc}}", "{{$.pipeline_job_resource_name}}"
CRON = re.compile(r"((CRON_)?TZ=\S+ )?\S+ \S+ \S+ \S+ \S+")
TASK = re.compile(r"(?:Executing task|Task) '?([\w-]+)'?(?: finished with status (\w+))?")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PAGE = 2  # so that clients turn pages
State, TaskState = v1.PipelineState, v1.PipelineTaskDetail.State


class VertexServer(RunServer):
    """All projects and regions; `answers` are codes to fail with."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(Connection, folder, environment)
        self.answers: list[int] = []
        self.jobs: dict[str, v1.PipelineJob] = {}
        self.schedules: dict[str, v1.Schedule] = {}
        self.resumed_with: list[bool] = []  # whether to catch up

    def create_job(self, parent: str, job_id: str, job: v1.PipelineJob, fired: str = "") -> v1.PipelineJob:
        _require_job(job)
        if not re.fullmatch(r"[a-z][-a-z0-9]{0,127}", job_id):
            raise exceptions.InvalidArgument(f"pipeline_job_id is {job_id!r}")
        job.name = f"{parent}/pipelineJobs/{job_id}"
        if job.name in self.jobs:
            raise exceptions.AlreadyExists(f"{job.name} already exists")
        job.state, job.create_time = State.PIPELINE_STATE_PENDING, _now()
        self.jobs[job.name] = job
        threading.Thread(target=self._execute, args=(job, fired), daemon=True).start()
        return job

    def cancel_job(self, name: str) -> proto.Message:
        job = _get(self.jobs, name)
        if job.state not in (State.PIPELINE_STATE_PENDING, State.PIPELINE_STATE_RUNNING):
            raise exceptions.FailedPrecondition(f"{name} has ended")
        job.state = State.PIPELINE_STATE_CANCELLED
        if name in self.processes:
            self.processes[name].terminate()
        return v1.PipelineJob()

    def create_schedule(self, parent: str, schedule: v1.Schedule) -> v1.Schedule:
        if not CRON.fullmatch(schedule.cron):
            raise exceptions.InvalidArgument(f"cron is {schedule.cron!r}, not five fields behind TZ=")
        if schedule.max_concurrent_run_count < 1:
            raise exceptions.InvalidArgument("max_concurrent_run_count must be positive")
        _require_job(schedule.create_pipeline_job_request.pipeline_job)
        schedule.name = f"{parent}/schedules/{len(self.requests)}"
        schedule.state, schedule.create_time = v1.Schedule.State.ACTIVE, _now()
        self.schedules[schedule.name] = schedule
        return schedule

    def fire(self, name: str, moment: datetime.datetime) -> v1.PipelineJob:
        """Begin the run of a schedule that is due then."""
        (schedule,) = (each for each in self.schedules.values() if each.display_name == name)
        if schedule.state != v1.Schedule.State.ACTIVE:
            raise exceptions.FailedPrecondition(f"{name} is {schedule.state.name}")
        request = v1.CreatePipelineJobRequest(schedule.create_pipeline_job_request)
        job = v1.PipelineJob.from_json(v1.PipelineJob.to_json(request.pipeline_job))
        job.schedule_name = schedule.name
        fired = moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.create_job(request.parent, f"{name}-{len(self.jobs) + 1}", job, fired)

    def _execute(self, job: v1.PipelineJob, fired: str) -> None:
        spec = json_format.MessageToJson(v1.PipelineJob.pb(job).pipeline_spec)
        spec = spec.replace(FIRED, fired).replace(JOB, job.name)
        job.state, job.start_time = State.PIPELINE_STATE_RUNNING, _now()
        code, said = self.execute(job.name, yaml.safe_dump(json.loads(spec)), _restore_numbers(job))
        text = COLOURS.sub("", said)
        job.job_detail = v1.PipelineJobDetail(task_details=_list_tasks(text))
        job.end_time = _now()
        if job.state == State.PIPELINE_STATE_CANCELLED:
            return
        if code:
            v1.PipelineJob.pb(job).error.code, v1.PipelineJob.pb(job).error.message = 9, text[-2000:]
        job.state = State.PIPELINE_STATE_FAILED if code else State.PIPELINE_STATE_SUCCEEDED


class Connection(BaseHTTPRequestHandler):
    """One connection."""

    server: VertexServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer_request(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.requests.append((self.command, self.path))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        try:
            if self.server.answers:
                raise exceptions.from_http_status(self.server.answers.pop(0), "as it was told")
            found = _answer(self.server, self.command, url.path.removeprefix("/v1/"), query, content or "{}")
            self.send(200, found if isinstance(found, str) else type(found).to_json(found))
        except json_format.ParseError as error:
            self.fail(exceptions.InvalidArgument(str(error)))
        except exceptions.GoogleAPICallError as error:
            self.fail(error)

    do_GET = do_POST = do_DELETE = answer_request  # noqa: N815

    def fail(self, error: exceptions.GoogleAPICallError) -> None:
        status = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
        self.send(
            int(error.code),
            json.dumps({"error": {"code": int(error.code), "message": error.message, "status": status}}),
        )

    def send(self, code: int, text: str) -> None:
        content = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _answer(server: VertexServer, method: str, path: str, query: dict[str, str], content: str) -> Any:
    """The message that answers a request, or its text."""
    if found := re.fullmatch(f"({PLACE})/pipelineJobs", path):
        if method == "POST":
            job = v1.PipelineJob.from_json(content, ignore_unknown_fields=False)
            return server.create_job(found[1], query.get("pipelineJobId", ""), job)
        jobs, token = _page(_filter(server.jobs.values(), query.get("filter", "")), query)
        jobs = [_mask(job, query["readMask"]) for job in jobs] if "readMask" in query else jobs
        return v1.ListPipelineJobsResponse(pipeline_jobs=jobs, next_page_token=token)
    if found := re.fullmatch(f"({PLACE}/pipelineJobs/[^/:]+)(:cancel)?", path):
        return server.cancel_job(found[1]) if found[2] else _get(server.jobs, path)
    if found := re.fullmatch(f"({PLACE})/schedules", path):
        if method == "POST":
            return server.create_schedule(found[1], v1.Schedule.from_json(content, ignore_unknown_fields=False))
        schedules, token = _page(list(server.schedules.values()), query)
        return v1.ListSchedulesResponse(schedules=schedules, next_page_token=token)
    if found := re.fullmatch(f"({PLACE}/schedules/[^/:]+)(:pause|:resume)?", path):
        schedule = _get(server.schedules, found[1])
        if method == "DELETE":
            del server.schedules[found[1]]
            empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
            return json.dumps({"name": f"{found[1]}/operations/1", "done": True, "response": empty})
        if found[2] == ":pause":
            schedule.state = v1.Schedule.State.PAUSED
        if found[2] == ":resume":
            request = v1.ResumeScheduleRequest.from_json(content, ignore_unknown_fields=False)
            server.resumed_with.append(request.catch_up)
            schedule.state = v1.Schedule.State.ACTIVE
        return "{}" if found[2] else schedule
    raise exceptions.NotFound(f"{method} {path}: not served here")


def _require_job(job: v1.PipelineJob) -> None:
    if not job.runtime_config.gcs_output_directory.startswith("gs://"):
        raise exceptions.InvalidArgument("runtime_config.gcs_output_directory must be a gs:// uri")
    for name, value in job.labels.items():
        if not (re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name) and re.fullmatch(r"[a-z0-9_-]{0,63}", value)):
            raise exceptions.InvalidArgument(f"label {name}={value}")
    spec = pipeline_spec_pb2.PipelineSpec()
    json_format.ParseDict(json_format.MessageToDict(v1.PipelineJob.pb(job).pipeline_spec), spec)
    known = spec.root.input_definitions.parameters
    given = set(job.runtime_config.parameter_values)
    if unknown := given - set(known):
        raise exceptions.InvalidArgument(f"unknown parameters: {sorted(unknown)}")
    wanted = {name for name, each in known.items() if not (each.is_optional or each.HasField("default_value"))}
    if missing := wanted - given:
        raise exceptions.InvalidArgument(f"missing parameters: {sorted(missing)}")


def _restore_numbers(job: v1.PipelineJob) -> dict[str, Any]:
    """The parameters' values; whole numbers at the top are doubles of the message, those inside stay so."""
    message = v1.PipelineJob.pb(job)
    values = struct_pb2.Struct()
    for name, value in message.runtime_config.parameter_values.items():
        values.fields[name].CopyFrom(value)
    spec = json_format.MessageToDict(message.pipeline_spec)
    kinds = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {
        name: int(value) if kinds[name]["parameterType"] == "NUMBER_INTEGER" else value
        for name, value in json_format.MessageToDict(values).items()
    }


def _list_tasks(log: str) -> list[v1.PipelineTaskDetail]:
    """Tasks of kfp.local's log, in the order in which they began."""
    states: dict[str, str] = {}
    for name, status in TASK.findall(log):
        states[name] = {"SUCCESS": "SUCCEEDED", "FAILURE": "FAILED"}.get(status, states.get(name, "RUNNING"))
    return [
        v1.PipelineTaskDetail(task_id=number, task_name=name, state=TaskState[state], create_time=_now(number))
        for number, (name, state) in enumerate(states.items())
    ]


def _filter(jobs: Any, asked: str) -> list[v1.PipelineJob]:
    newest = sorted(jobs, key=lambda job: job.create_time, reverse=True)
    if not asked:
        return newest
    found = re.fullmatch(r'labels\.(\w+)="([^"]*)"', asked)
    if not found:
        raise exceptions.InvalidArgument(f"filter is {asked!r}")
    return [job for job in newest if job.labels.get(found[1]) == found[2]]


def _mask(job: v1.PipelineJob, fields: str) -> v1.PipelineJob:
    """The job with the named fields alone."""
    mask, masked = field_mask_pb2.FieldMask(), v1.PipelineJob()
    mask.FromJsonString(fields)
    mask.MergeMessage(v1.PipelineJob.pb(job), v1.PipelineJob.pb(masked))
    return masked


def _page(entries: list[Any], query: dict[str, str]) -> tuple[list[Any], str]:
    first = int(query.get("pageToken") or 0)
    more = len(entries) > first + PAGE
    return entries[first : first + PAGE], str(first + PAGE) if more else ""


def _get(things: Mapping[str, Any], name: str) -> Any:
    if name not in things:
        raise exceptions.NotFound(f"{name} not found")
    return things[name]


def _now(microseconds: int = 0) -> Timestamp:
    now = Timestamp()
    now.FromDatetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(microseconds=microseconds))
    return now


def serving(folder: Path, **environment: str) -> AbstractContextManager[VertexServer]:
    """A server whose runs work below the folder, for as long as the block lasts."""
    return served(VertexServer(folder, environment))
