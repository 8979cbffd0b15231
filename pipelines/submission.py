"""What is sent to a cluster: the compiled graph, named after its content, and the arguments of one run."""

import datetime
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bertline.components.store.folder import SCHEME
from bertline.pipelines.platforms import Platform
from bertline.pipelines.pretraining import compile_pipeline
from bertline.pipelines.run_local import require_settings
from bertline.pipelines.run_settings import Run, pipeline_arguments
from bertline.pipelines.staging import stage_inputs

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "CANCELLED", "SKIPPED")


@dataclass(frozen=True)
class Submission:
    """One run, ready to be sent."""

    run: str  # its name
    package: Path  # the compiled graph
    version: str  # of the graph, by its content
    arguments: dict[str, Any]

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

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED


class Cluster(Protocol):
    """What carries out runs: Kubeflow Pipelines, Vertex AI. Each method raises OSError where it cannot be reached."""

    def submit(self, submission: Submission) -> RunState:
        """Start a run."""

    def find(self, run: str) -> RunState:
        """A run by its name or id; FileNotFoundError where there is none."""

    def list(self) -> Iterator[RunState]:
        """The runs, the newest first."""

    def cancel(self, run: str) -> RunState:
        """End a run; its steps get SIGTERM, and save."""


def prepare_submission(
    name: str, run: Run, out: str, platform: Platform, folder: Path, *, send: bool = True
) -> Submission:
    """Compile the graph into `folder` and put a run's arguments together; its input files are sent to `out` if asked.

    `out` is gs://BUCKET/FOLDER, or a folder that is mounted in all tasks. Raises ValueError for settings that cannot
    be, and what `stage_inputs` raises.
    """
    require_settings(run)
    if not out.startswith(SCHEME) and not Path(out).is_absolute():
        raise ValueError(f"{out}: of this machine; give gs://BUCKET/FOLDER, or a folder that is mounted in all tasks")
    arguments = stage_inputs(pipeline_arguments(run), out, send=send)
    now = datetime.datetime.now(datetime.UTC)
    run_name = f"{name}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"pretraining.{platform.name}.yaml"
    compile_pipeline(platform, str(package))
    version = f"sha256-{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
    store = f"{out.rstrip('/')}/store"
    return Submission(run_name, package, version, arguments | {"store": store, "run": run_name})
