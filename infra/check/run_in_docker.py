"""The tiny graph, compiled by this Python, its steps run in BERTLINE_IMAGE: `python run_in_docker.py FOLDER`.

FOLDER is the only thing of this machine that a step sees: the examples lie in it, the store is made there.
"""

import os
import sys
from pathlib import Path
from typing import Any

from kfp import local

from bertline.pipelines.platforms import LOCAL
from bertline.pipelines.pretraining import build_pipeline
from bertline.pipelines.recipes import EXAMPLES, RUNS
from bertline.pipelines.run_settings import pipeline_arguments


def run(folder: Path) -> None:
    """Run it; an exception of kfp's where a step fails."""
    user = f"{os.getuid()}:{os.getgid()}"  # who may write to the folder
    runner = local.DockerRunner(user=user, network_mode="none", environment={"HOME": str(folder)})
    local.init(runner, pipeline_root=str(folder))
    build_pipeline(LOCAL)(**list_arguments(folder), store=str(folder / "store"), run="in-docker")


def list_arguments(folder: Path) -> dict[str, Any]:
    """The pipeline's arguments with the examples' paths as the containers have them."""
    return {name: _place(value, folder) for name, value in pipeline_arguments(RUNS["tiny"]).items()}


def _place(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [{name: _place(text, folder) for name, text in each.items()} for each in value]
    return value.replace(str(EXAMPLES), str(folder / "examples")) if isinstance(value, str) else value


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve())
