"""What README.md and the pages state of the project, where a test can tell."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest

from bertline.pipelines.recipes import RUNS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = {
    "benchmarks/RESULTS.md": (
        *("2.75", "194", "239 MB", "1,334 MB", "244 MB", "2.30", "3.93", "2.85", "335", "1,000 lines"),
        *("4.15", "4.62", "6.74", "6.58", "7.05", "5.02"),
    ),
    "docs/data_generation.md": ("71 times", "49 MB for each MB of text", "55-61 %", "16.3", "17.0"),
}
CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("page", FIGURES)
def test_the_readmes_figures_are_those_that_were_measured(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for figure in FIGURES[page]:
        assert figure in README, figure
        assert figure in text, figure


def test_the_steps_of_pretrain_base_are_as_many_as_it_trains() -> None:
    assert f"comes from {RUNS['base'].steps_128 + RUNS['base'].steps_512} steps on" in README


def test_bare_make_prints_help() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = "help install test test-all lint docs pretrain pretrain-base pretrain-tiny lineage compile bench"
    for target in lines.split():
        assert re.search(rf"^{target} +\S", shown, flags=re.MULTILINE)


def test_the_tree_names_folders_that_exist() -> None:
    tree = CONTRIBUTING.split("## The tree")[1].split("```")[1]
    folders = [line.split()[0] for line in tree.strip().splitlines()[1:]]
    assert len(folders) > 5
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_the_ten_files_to_read_first_exist() -> None:
    files = re.findall(r"^\d+\. `([^`]+)`", CONTRIBUTING, re.MULTILINE)
    assert len(files) == 10
    assert all((ROOT / file).is_file() for file in files)


def test_the_step_that_contributing_adds_is_the_one_that_is_tried() -> None:
    tried = runpy.run_path(str(ROOT / "tests" / "pipelines" / "test_new_step.py"))
    for name in ("MODULE", "ENTRY", "GRAPH"):
        shown = re.search(rf"```python title=\"{name} in [^\"]*\"\n(.*?)```", CONTRIBUTING, re.DOTALL)
        assert shown is not None
        assert shown[1].strip() == tried[name].strip()
