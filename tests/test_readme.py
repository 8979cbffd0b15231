"""The README's commands, run as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bertline.pipelines.run_settings import RUNS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
    if line.strip()
]
STEPS = [command for command in COMMANDS if command.startswith(".venv/bin/bertline")]
MAKE = [command for command in COMMANDS if command.startswith("make ")]


def test_every_command_is_of_a_kind_that_is_checked_here() -> None:
    assert STEPS and MAKE
    assert sorted(STEPS + MAKE) == sorted(COMMANDS)


@pytest.mark.parametrize("command", MAKE)
def test_make_targets_exist_and_pass_their_settings_on(command: str) -> None:
    shown = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    for setting in re.findall(r"(?:DUMP|BOOKS|VOCAB|STEPS_128|STEPS_512|BATCH|OUT)=(\S+)", command):
        assert setting in shown.stdout


def test_the_steps_of_pretrain_base_are_as_many_as_it_trains() -> None:
    assert f"comes from {RUNS['base'].steps_128 + RUNS['base'].steps_512} steps on" in README


def test_bare_make_prints_help() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = "help install test test-all lint pretrain pretrain-base pretrain-tiny lineage compile bench"
    for target in lines.split():
        assert re.search(rf"^{target} +\S", shown, flags=re.MULTILINE)


@pytest.mark.slow
def test_the_steps_lead_from_the_example_dump_to_scores_and_an_export(tmp_path: Path) -> None:
    for command in STEPS:
        argv = shlex.split(command.replace("out/steps", str(tmp_path)))
        argv[0] = str(Path(sys.executable).parent / "bertline")
        ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    assert (tmp_path / "exported" / "config.json").is_file()
    assert (tmp_path / "scores" / "scores.json").is_file()
    assert (tmp_path / "lineage.html").stat().st_size > 10_000


def test_the_tree_names_folders_that_exist() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folders = [line.split()[0] for line in tree.strip().splitlines()]
    assert all((ROOT / folder).is_dir() for folder in folders)
