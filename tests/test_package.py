"""What an installed bertline holds beside its code."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
