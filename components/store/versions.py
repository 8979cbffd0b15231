"""What an artifact was made with: versions of bertline and of what the process had loaded, and a checkout's commit."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What may decide bytes or break between versions, by the module that is loaded -> its distribution.
PACKAGES = {
    "bertline": "bertline",
    "apache_beam": "apache-beam",
    "google_crc32c": "google-crc32c",
    "jax": "jax",
    "jaxlib": "jaxlib",
    "jieba": "jieba",
    "keras": "keras",
    "llvmlite": "llvmlite",
    "numba": "numba",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "tensorflow": "tensorflow",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "wikiextractor": "wikiextractor",
}
ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where it is one: the package holds links to its folders
GIT_SECONDS = 10.0
STATUS = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
COMMIT = "# branch.oid "


def list_versions() -> dict[str, str]:
    """Package -> version, of Python and of those packages that this process has loaded."""
    found = {"python": platform.python_version()}
    for module, package in PACKAGES.items():
        if module in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # a checkout that was put on the path, not installed
                continue
    return found


@cache
def read_checkout(root: Path = ROOT) -> dict[str, str | bool]:
    """The commit of the checkout at `root`, and whether its files differ from it (dirty); {} for what is no checkout.

    {} too where git is not installed or does not answer.
    """
    if not (root / ".git").exists():
        return {}
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *STATUS]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_SECONDS,
            env=own | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = ended.stdout.splitlines()
    commits = [line.removeprefix(COMMIT) for line in lines if line.startswith(COMMIT)]
    if ended.returncode or not commits:
        return {}
    return {"commit": commits[0], "dirty": any(not line.startswith("#") for line in lines)}
