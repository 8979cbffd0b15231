"""What is sent to a cluster: the compiled graph, named after its content, and the arguments of one run."""

import datetime
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from bertline.components.store.folder import SCHEME, store_below
from bertline.pipelines.clusters.schedule import Schedule
from bertline.pipelines.clusters.staging import stage_inputs
from bertline.pipelines.platforms import Platform
from bertline.pipelines.pretraining import NAME, build_pipeline
from bertline.pipelines.run_local import require_settings
from bertline.pipelines.run_settings import Run, pipeline_arguments

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "CANCELLED", "SKIPPED")


@dataclass(frozen=True)
class Submission:
    """One run, ready to be sent."""

    run: str  # its name
    package: Path  # the compiled graph
    version: str  # of the graph, by its content
    arguments: dict[str, Any]
    pipeline: str = NAME  # what the graph is called

    def describe(self) -> dict[str, Any]:
        """All that would be sent, but for the graph itself."""
        return {
            "run": self.run,
            "graph": str(self.package),
            "version of the graph": self.version,
            "arguments": self.arguments,
        }


@dataclass(frozen=True)
class RunState:
    """What a cluster says of a run."""

    run: str
    id: str
    state: str
    created: str
    finished: str = ""
    error: str = ""
    page: str = ""  # of the run, in a browser
    store: str = ""  # where its artifacts, notes and logs go
    noted_as: str = ""  # its name there, where a schedule has begun it

    @property
    def name_in_store(self) -> str:
        """Under which its notes and logs are kept."""
        return self.noted_as or self.run

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED


@dataclass(frozen=True)
class ScheduleState:
    """What a cluster says of a schedule."""

    name: str
    id: str
    cron: str  # as the cluster has it
    state: str  # enabled, disabled
    created: str
    store: str = ""


class Cluster(Protocol):
    """What carries out runs: Kubeflow Pipelines, Vertex AI. Each method raises OSError where it cannot be reached."""

    @property
    def moment(self) -> str:
        """What stands for the moment at which a schedule fired, in a parameter of its graph; "" where nothing does."""

    def submit(self, submission: Submission) -> RunState:
        """Start a run."""

    def find(self, run: str) -> RunState:
        """A run by its name or id; FileNotFoundError where there is none."""

    def list(self) -> Iterator[RunState]:
        """The runs, the newest first."""

    def cancel(self, run: str) -> RunState:
        """End a run; its steps get SIGTERM, and save."""

    def schedule(self, schedule: Schedule, submission: Submission) -> ScheduleState:
        """Begin runs at the schedule's times; FileExistsError where one is called so."""

    def list_schedules(self) -> Iterator[ScheduleState]:
        """All schedules."""

    def pause(self, name: str) -> ScheduleState:
        """Begin no runs of a schedule until it is resumed; FileNotFoundError where none is called so."""

    def resume(self, name: str) -> ScheduleState:
        """Begin them again."""

    def unschedule(self, name: str) -> None:
        """Delete a schedule; its runs stay."""


def prepare_submission(
    name: str, run: Run, out: str, platform: Platform, folder: Path, *, send: bool = True
) -> Submission:
    """Compile the graph into `folder` and put a run's arguments together; its input files are sent to `out` if asked.

    `out` is gs://BUCKET/FOLDER, or a folder that is mounted in all tasks. Raises ValueError for settings that cannot
    be, and what `stage_inputs` raises.
    """
    arguments = _list_arguments(run, out, platform, send)
    now = datetime.datetime.now(datetime.UTC)
    run_name = f"{name}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    package, version = _compile(build_pipeline(platform), folder / f"pretraining.{platform.name}.yaml")
    return Submission(run_name, package, version, arguments | {"run": run_name})


def prepare_schedule(
    schedule: Schedule, run: Run, out: str, platform: Platform, folder: Path, *, send: bool = True, **more: Any
) -> Submission:
    """As `prepare_submission`, for the graph of a schedule, which names its runs itself.

    `more` are its own parameters, `moment`, `only_if_newer` and `webhook`. Files of this machine stay what they are
    when they are sent: only what lies in buckets or is mounted can become newer.
    """
    from bertline.pipelines.clusters.scheduled import NAME, build_scheduled_pipeline

    arguments = _list_arguments(run, out, platform, send) | {"schedule": asdict(schedule), **more}
    package, version = _compile(build_scheduled_pipeline(platform), folder / f"scheduled.{platform.name}.yaml")
    return Submission(schedule.name, package, version, arguments, NAME)


def _list_arguments(run: Run, out: str, platform: Platform, send: bool) -> dict[str, Any]:
    require_settings(run)
    if not out.startswith(SCHEME) and not Path(out).is_absolute():
        raise ValueError(f"{out}: of this machine; give gs://BUCKET/FOLDER, or a folder that is mounted in all tasks")
    arguments = _use_processors(pipeline_arguments(run), platform)
    return stage_inputs(arguments, out, send=send) | {"store": store_below(out)}


def _use_processors(arguments: dict[str, Any], platform: Platform) -> dict[str, Any]:
    """Let data steps have a process for each processor of their task, where the run does not say how many."""
    several = {
        step: arguments[step] | {"num_workers": given.cpu}
        for step, given in platform.resources.items()
        if arguments[step].get("num_workers") == 1
    }
    return arguments | several


def _compile(pipeline: Any, package: Path) -> tuple[Path, str]:
    """The compiled graph, and its name by its content."""
    from kfp import compiler

    package.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(package))
    return package, f"sha256-{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
