"""The light install: the same versions of fewer packages, and commands that say what they lack."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("tensorflow", "tensorflow-transform", "keras")
BESIDE = ("kfp-kubernetes", "setuptools")  # to compile for Kubeflow, and to install bertline itself


def read_lock(name: str) -> dict[str, str]:
    """Package -> its line."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines}


def find_needed(roots: Iterable[str]) -> set[str]:
    """What is installed of these packages and of all that they need."""
    waiting, found = [Requirement(root) for root in roots], set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), tuple(sorted(wanted.extras)))
        if key in found:
            continue
        found.add(key)
        for needed in map(Requirement, distribution(wanted.name).requires or ()):
            extras = ("", *wanted.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return {name for name, _ in found}


def test_the_light_lock_is_the_part_of_the_lock_that_does_without_tensorflow() -> None:
    light, full = read_lock("requirements-light.lock"), read_lock("requirements.lock")
    assert light.items() <= full.items()
    assert not {*LEFT_OUT, "jax", "pytest", "mypy"} & light.keys()
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    roots = [each for each in dependencies if canonicalize_name(Requirement(each).name) not in LEFT_OUT]
    assert light.keys() == find_needed([*roots, *BESIDE])


WITHOUT = f"""
import sys
for name in {[name.replace("-", "_") for name in LEFT_OUT]}:
    sys.modules[name] = None  # as if it were not installed
from bertline.pipelines.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("argv", ["run tiny --out=out", "extract_features --model=. --input_file=- --output_file=x"])
def test_a_command_that_needs_tensorflow_says_so_in_a_line(argv: str, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, *argv.split()], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 2
    message = r"bertline \w+: error: \w+ is not installed \(a light install leaves it out\), .*`make install` adds it\n"
    assert re.fullmatch(message, ended.stderr)
    assert ended.stdout == ""


def make(tmp_path: Path, *argv: str) -> str:
    """What `make install` would do to the environment in tmp_path."""
    given = ["make", "--dry-run", "install", f"VENV={tmp_path}", *argv]
    return subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_takes_a_light_environment_to_a_full_one_and_a_full_one_for_a_light_one(tmp_path: Path) -> None:
    assert "pip install --disable-pip-version-check -r requirements-light.lock" in make(tmp_path, "LIGHT=yes")
    (tmp_path / ".ready-light").touch()
    assert "Nothing to be done" in make(tmp_path, "LIGHT=yes")
    assert "-r requirements.lock" in make(tmp_path)
    assert "-r requirements.lock" in make(tmp_path, "LIGHT=no")
    (tmp_path / ".ready").touch()
    assert "Nothing to be done" in make(tmp_path)
    assert "Nothing to be done" in make(tmp_path, "LIGHT=yes")
