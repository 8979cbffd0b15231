"""Vertex AI Pipelines, by its own client: runs are submitted, followed and ended, and repeated on a schedule.

The client's services are called themselves: its PipelineJob asks the Resource Manager first and makes buckets that are
not there, and its settings are the whole process's.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import yaml

from bertline.pipelines.clusters.schedule import Schedule
from bertline.pipelines.clusters.submission import RunState, ScheduleState, Submission
from bertline.pipelines.clusters.vertex_connection import SECONDS, connect, list_pages, naming, retry_reading
from bertline.pipelines.placing.resources import pairs
from bertline.settings import list_known, one_of, require_choices

EXPERIMENT = "bertline"
NAME = re.compile(r"[a-z][-a-z0-9]{0,127}")  # of a run
JOB = re.compile(r"projects/[^/]+/locations/[^/]+/pipelineJobs/[^/\s]+")
LABEL, VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
CATCH_UP = "catch_up"  # the label of a schedule that makes up for missed times: the service is told when it resumes
READ = ("name", "state", "createTime", "endTime", "error", "runtimeConfig", "labels")  # of each run in a list
STATES = {"ACTIVE": "enabled", "PAUSED": "disabled"}  # of schedules; others in small letters
HOSTS = "https://console.cloud.google.com/vertex-ai/locations"


@dataclass(frozen=True)
class TaskState:
    """What Vertex AI says of one task of a run."""

    task: str
    state: str
    started: str
    finished: str
    error: str


@dataclass(frozen=True)
class Vertex:
    """The service in a region, for a project."""

    project: str
    region: str
    root: str = ""  # gs://BUCKET/FOLDER for what tasks hand on, small files that point into the store; to submit
    service_account: str = ""  # by which tasks act; none: the project's default
    network: str = ""  # projects/NUMBER/global/networks/NAME, with which tasks are peered
    encryption_key: str = ""  # a key of Cloud KMS for what the service keeps
    labels: tuple[str, ...] = ()  # of each run, NAME=VALUE each
    failure_policy: str = one_of("slow", ("slow", "fast"))  # after a failed task those that can still run do, or none
    experiment: str = EXPERIMENT  # a label by which runs are listed
    endpoint: str = ""  # none: the region's; of http:// no credentials are asked for
    moment: str = ""  # a graph asks the service itself when its schedule fired

    def __post_init__(self) -> None:
        """Refuse what the service would."""
        require_choices(self)
        if not self.project:
            raise ValueError("project is empty; give the id of a project of Google Cloud")
        if not self.region:
            raise ValueError("region is empty; give one of Vertex AI's, such as us-central1")
        if self.root and not re.fullmatch(r"gs://[^/]+(/.*)?", self.root):
            raise ValueError(f'root is "{self.root}"; give gs://BUCKET/FOLDER')
        for name, value in self._labels().items():
            if not (LABEL.fullmatch(name) and VALUE.fullmatch(value)):
                raise ValueError(f"label {name}={value}: names and values are of a-z, 0-9, _ and -, at most 63")

    @property
    def where(self) -> str:
        """The project's region, as the service names it."""
        return f"projects/{self.project}/locations/{self.region}"

    @cached_property
    def runs(self) -> Any:
        """The connection to the service of runs; OSError without credentials."""
        from google.cloud.aiplatform_v1 import PipelineServiceClient

        with naming(self.where):
            return connect(PipelineServiceClient, self.region, self.endpoint)

    @cached_property
    def schedules(self) -> Any:
        """The connection to the service of schedules."""
        from google.cloud.aiplatform_v1 import ScheduleServiceClient

        with naming(self.where):
            return connect(ScheduleServiceClient, self.region, self.endpoint)

    def submit(self, submission: Submission) -> RunState:
        """Start a run; FileExistsError where one is called so."""
        if not NAME.fullmatch(submission.run):
            raise ValueError(f'run is "{submission.run}"; Vertex AI wants a-z, 0-9 and -, a letter first, at most 128')
        job = self._make_job(submission)
        with naming(self.where, submission.run):
            made = self.runs.create_pipeline_job(
                parent=self.where, pipeline_job=job, pipeline_job_id=submission.run, timeout=SECONDS
            )
        return self._as_state(made)

    def find(self, run: str) -> RunState:
        """A run by its name or id; FileNotFoundError where there is none."""
        return self._as_state(self._get(run))

    def list(self) -> Iterator[RunState]:
        """The experiment's runs, the newest first."""
        request = {
            "parent": self.where,
            "filter": f'labels.experiment="{self.experiment}"',
            "order_by": "create_time desc",
            "read_mask": ",".join(READ),
        }
        ask = partial(self.runs.list_pipeline_jobs, request)
        yield from map(self._as_state, list_pages(ask, "pipeline_jobs", self.where))

    def cancel(self, run: str) -> RunState:
        """End a run; its steps get SIGTERM, and save."""
        found = self.find(run)
        with naming(self.where, run):
            self.runs.cancel_pipeline_job(name=found.id, timeout=SECONDS)
        return self.find(run)

    def list_tasks(self, run: str) -> Iterator[TaskState]:
        """The tasks of a run that have begun, in the order in which they did."""
        details = self._get(run).job_detail.task_details
        for task in sorted(details, key=lambda each: str(each.create_time or "")):
            yield TaskState(
                task.task_name,
                _spell(task.state.name),
                _moment(task.start_time),
                _moment(task.end_time),
                task.error.message,
            )

    def schedule(self, schedule: Schedule, submission: Submission) -> ScheduleState:
        """Begin runs at the schedule's times; FileExistsError where one is called so."""
        from google.cloud.aiplatform_v1 import CreatePipelineJobRequest
        from google.cloud.aiplatform_v1 import Schedule as Message

        if any(each.name == schedule.name for each in self.list_schedules()):
            raise FileExistsError(f"{self.where}: a schedule is called {schedule.name} already; delete it first")
        first, last = schedule.window
        more = {CATCH_UP: "yes"} if schedule.catch_up else {}
        message = Message(
            display_name=schedule.name,
            cron=schedule.for_vertex(),
            start_time=first,
            end_time=last,
            max_concurrent_run_count=schedule.max_concurrent,
            create_pipeline_job_request=CreatePipelineJobRequest(
                parent=self.where, pipeline_job=self._make_job(submission, **more)
            ),
        )
        with naming(self.where, schedule.name):
            made = self.schedules.create_schedule(parent=self.where, schedule=message, timeout=SECONDS)
        return self._as_schedule(made)

    def list_schedules(self) -> Iterator[ScheduleState]:
        """All schedules of the experiment."""
        yield from map(self._as_schedule, self._list_own_schedules())

    def pause(self, name: str) -> ScheduleState:
        """Begin no runs of a schedule until it is resumed."""
        found = self._find_schedule(name)
        with naming(self.where, name):
            self.schedules.pause_schedule(name=found.name, timeout=SECONDS)
        return self._as_schedule(self._find_schedule(name))

    def resume(self, name: str) -> ScheduleState:
        """Begin them again."""
        found = self._find_schedule(name)
        catch_up = CATCH_UP in found.create_pipeline_job_request.pipeline_job.labels
        with naming(self.where, name):
            self.schedules.resume_schedule({"name": found.name, "catch_up": catch_up}, timeout=SECONDS)
        return self._as_schedule(self._find_schedule(name))

    def unschedule(self, name: str) -> None:
        """Delete a schedule; its runs stay."""
        found = self._find_schedule(name)
        with naming(self.where, name):
            self.schedules.delete_schedule(name=found.name, timeout=SECONDS).result(timeout=SECONDS)

    def _labels(self) -> dict[str, str]:
        return {"experiment": self.experiment, **pairs("labels", self.labels)}

    def _make_job(self, submission: Submission, **labels: str) -> Any:
        """The message of a run; ValueError for a graph of Kubeflow's, and for a region that there is not."""
        from google.cloud.aiplatform.constants.base import SUPPORTED_REGIONS
        from google.cloud.aiplatform_v1 import PipelineJob

        if self.region not in SUPPORTED_REGIONS:
            raise ValueError(f'region is "{self.region}"{list_known(self.region, sorted(SUPPORTED_REGIONS))}')
        if not self.root:
            raise ValueError("root is empty; give gs://BUCKET/FOLDER for what tasks hand on")
        documents = list(yaml.safe_load_all(submission.package.read_text(encoding="utf-8")))
        if len(documents) != 1:
            raise ValueError(f"{submission.package}: a graph for Kubeflow; compile it with --platform=vertex")
        about = {
            "displayName": submission.run,
            "pipelineSpec": documents[0],
            "labels": {**self._labels(), "version": submission.version, **labels},
            "runtimeConfig": {
                "gcsOutputDirectory": self.root,
                "parameterValues": submission.arguments,
                "failurePolicy": f"PIPELINE_FAILURE_POLICY_FAIL_{self.failure_policy.upper()}",
            },
            "serviceAccount": self.service_account,
            "network": self.network,
            **({"encryptionSpec": {"kmsKeyName": self.encryption_key}} if self.encryption_key else {}),
        }
        return PipelineJob.from_json(json.dumps(about))

    def _get(self, run: str) -> Any:
        name = run if "/" in run else f"{self.where}/pipelineJobs/{run}"
        if not JOB.fullmatch(name):
            raise FileNotFoundError(f"{self.where}: no run is called {run}; `bertline list` names them")
        with naming(self.where, f"run {run}"):
            return self.runs.get_pipeline_job(name=name, timeout=SECONDS, retry=retry_reading())

    def _list_own_schedules(self) -> Iterator[Any]:
        request = {"parent": self.where, "filter": "create_pipeline_job_request:*"}
        for each in list_pages(partial(self.schedules.list_schedules, request), "schedules", self.where):
            labels = each.create_pipeline_job_request.pipeline_job.labels
            if labels.get("experiment") == self.experiment:
                yield each

    def _find_schedule(self, name: str) -> Any:
        names = []
        for each in self._list_own_schedules():
            if each.display_name == name:
                return each
            names.append(each.display_name)
        raise FileNotFoundError(f"{self.where}: no schedule is called {name}{list_known(name, names)}")

    def _as_state(self, job: Any) -> RunState:
        run = job.name.rpartition("/")[2]
        return RunState(
            run,
            job.name,
            _spell(job.state.name),
            _moment(job.create_time),
            _moment(job.end_time),
            job.error.message,
            f"{HOSTS}/{self.region}/pipelines/runs/{run}?project={self.project}",
            str(dict(job.runtime_config.parameter_values).get("store", "")),
        )

    def _as_schedule(self, found: Any) -> ScheduleState:
        parameters = found.create_pipeline_job_request.pipeline_job.runtime_config.parameter_values
        state = found.state.name
        return ScheduleState(
            found.display_name,
            found.name,
            found.cron,
            STATES.get(state, state.lower()),
            _moment(found.create_time),
            str(dict(parameters).get("store", "")),
        )


def _spell(state: str) -> str:
    """As Kubeflow spells states."""
    return state.removeprefix("PIPELINE_STATE_").replace("CANCELL", "CANCEL")


def _moment(time: Any) -> str:
    return time.isoformat() if time else ""
