"""What is sent to a cluster: the compiled graph, named after its content, and the arguments of one run."""

import datetime
import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.pipelines.platforms import Platform
from bertline.pipelines.pretraining import compile_pipeline
from bertline.pipelines.run_local import require_settings
from bertline.pipelines.run_settings import TEXT_SOURCES, Run, pipeline_arguments

MOUNTS = ("gs://", "/")  # what a path must begin with that every machine of a cluster can reach


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
    page: str = ""


def prepare_submission(name: str, run: Run, store: str, platform: Platform, folder: Path) -> Submission:
    """Compile the graph into `folder` and put a run's arguments together.

    Raises ValueError for settings that cannot be, and for a store or files of this machine alone.
    """
    require_settings(run)
    arguments = pipeline_arguments(run)
    _require_reachable("--store", store)
    for source in (*TEXT_SOURCES, "vocab", "initial"):
        for each in filter(None, arguments[source].split(",")):
            _require_reachable(f"--{source}", each)
    for task in arguments["tasks"]:
        _require_reachable("--task", task["train"])
    now = datetime.datetime.now(datetime.UTC)
    run_name = f"{name}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"pretraining.{platform.name}.yaml"
    compile_pipeline(platform, str(package))
    version = f"sha256-{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
    return Submission(run_name, package, version, arguments | {"store": store, "run": run_name})


def _require_reachable(flag: str, path: str) -> None:
    if not path.startswith(MOUNTS):
        raise ValueError(
            f"{flag}: {path} is of this machine; a cluster reads gs://BUCKET/..., or a path mounted in its tasks"
        )
