"""The cpu image built by a container engine, and the tiny graph run in it by kfp.local's DockerRunner."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from infra.check import environments
from infra.check.finding import Finding, Unchecked
from infra.check.images import DOCKERFILE

IMAGE = "bertline-python:cpu-checked"
SECONDS_TO_ANSWER = 20
DOCKER_SDK = "docker==7.1.0"  # kfp's DockerRunner speaks through it; the project has all that it needs, but not itself
PROGRAM = Path(__file__).with_name("run_in_docker.py")


def find_engine() -> str:
    """The command of a container engine that answers; Unchecked where there is none, and why."""
    if shutil.which("docker") is None:
        raise Unchecked("no container engine: docker is not installed")
    try:
        asked = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_TO_ANSWER,
        )
    except subprocess.TimeoutExpired as error:
        raise Unchecked(f"no container engine answers (docker info: nothing in {SECONDS_TO_ANSWER} s)") from error
    if asked.returncode or not asked.stdout.strip():
        said = asked.stderr.strip().splitlines()
        raise Unchecked(f"no container engine answers ({said[-1] if said else 'docker info says nothing'})")
    return "docker"


def build_and_run(root: Path, folder: Path, python: str) -> Iterator[Finding]:
    """Build the image, then run every step of the tiny graph in it; `python` is the project's own."""
    engine = find_engine()
    build = [engine, "build", f"--file={DOCKERFILE}", "--target=cpu", f"--tag={IMAGE}", *_build_options(), "."]
    print(f"Building {IMAGE}: some minutes and 8 GB; what the engine says follows.", flush=True)
    if subprocess.run(build, cwd=root, check=False).returncode:
        yield Finding(DOCKERFILE, 0, "the target cpu cannot be built", "what the engine said stands above")
        return
    place = folder / "engine"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / "examples", place / "run" / "examples")
    pip = [*environments.PIP, "install", "--quiet", "--no-deps", f"--target={place / 'sdk'}", DOCKER_SDK]
    if subprocess.run(pip, check=False).returncode:
        raise Unchecked(f"{DOCKER_SDK} cannot be installed, through which kfp speaks to the engine")
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{place / 'sdk'}", "BERTLINE_IMAGE": IMAGE}
    command = [python, str(PROGRAM), str(place / "run")]
    if subprocess.run(command, cwd=place, env=environment, check=False).returncode:
        yield Finding(DOCKERFILE, 0, "the tiny graph does not run in the image", "what its steps said stands above")
    elif not list((place / "run" / "store").glob("*/*/MANIFEST.json")):
        yield Finding(DOCKERFILE, 0, "the tiny graph ended without artifacts")


def _build_options() -> list[str]:
    """For an engine without a bridge, or without BuildKit: BERTLINE_BUILD_OPTIONS="--network=host"."""
    return os.environ.get("BERTLINE_BUILD_OPTIONS", "").split()
