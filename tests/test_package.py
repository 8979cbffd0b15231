"""What an installed bertline holds beside its code."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
FLOORS = ("components", "model", "pipelines", "tokenizer", "examples")


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_the_example(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("src", *FLOORS):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={tmp_path}", str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name.removeprefix("bertline/") for name in zipfile.ZipFile(wheel).namelist()}
    for floor in FLOORS:
        files = [file for file in (source / floor).rglob("*") if file.is_file()]
        assert {str(file.relative_to(source)) for file in files} <= held


def test_every_locked_package_can_be_installed_by_the_oldest_python_that_is_promised() -> None:
    """Debian 12 has 3.11.2."""
    (promised,) = re.findall(r'^requires-python = ">=([\d.]+),', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    locked = [line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().split()]
    wanted = {name: importlib.metadata.metadata(name).get("Requires-Python", "") for name in locked}
    oldest = f"{promised}.0"
    assert [name for name, pythons in wanted.items() if not SpecifierSet(pythons).contains(oldest)] == []
