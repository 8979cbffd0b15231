"""bertline.run: the settings are those of `bertline run`, and so is what comes of them."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bertline.components.step_table import STEPS
from bertline.pipelines.cli import run_verb
from bertline.pipelines.cli.run_verb import format_config, read_run
from bertline.pipelines.cli.verbs import FlagParser
from bertline.pipelines.from_python import choose_run, run
from bertline.pipelines.recipes import RUNS
from bertline.pipelines.run_settings import Run, pipeline_arguments


def by_flags(*argv: str) -> Run:
    parser = FlagParser(allow_abbrev=False)
    run_verb.RUN.add_flags(parser)
    return read_run(parser.parse_args(argv))


@pytest.mark.parametrize(
    ("name", "settings", "flags"),
    [
        ("tiny", {}, []),
        (
            "tiny",
            {"steps_128": 5, "batch": 4, "do_lower_case": False},
            ["--steps_128=5", "--batch=4", "--do_lower_case=false"],
        ),
        ("tiny", {"dump": Path("a.xml"), "books": ["b/", Path("c/")]}, ["--dump=a.xml", "--books=b/,c"]),
        ("budget", {"model": "mini", "text": "a.txt"}, ["--model=mini", "--text=a.txt"]),
        ("tiny", {"tasks": {"mrpc": Path("m"), "sst2": "s"}}, ["--task=mrpc=m", "--task=sst2=s"]),
        ("tiny", {"tasks": ["mrpc=m"]}, ["--task=mrpc=m"]),
        (
            "tiny",
            {"vocab": "v.txt", "pretrain": {"weight_decay": 0.1}},
            ["--vocab=v.txt", "--pretrain.weight_decay=0.1"],
        ),
        ("tiny", {"vocab": {"vocab_size": 900}}, ["--vocab.vocab_size=900"]),
    ],
)
def test_settings_are_those_of_the_command_line(name: str, settings: dict[str, Any], flags: list[str]) -> None:
    assert pipeline_arguments(choose_run(name, settings)) == pipeline_arguments(by_flags(name, *flags))


def test_a_file_of_settings_is_taken_as_it_is() -> None:
    text = "\n".join(format_config("tiny", by_flags("tiny", "--steps_128=7", "--prepare.seed=3")))
    assert pipeline_arguments(choose_run("tiny", tomllib.loads(text))) == pipeline_arguments(
        by_flags("tiny", "--steps_128=7", "--prepare.seed=3")
    )


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("tinny", {}, 'run is "tinny"; did you mean tiny. known: base, tiny, paper, budget'),
        ("tiny", {"step_128": 5}, "unknown run keys: step_128; did you mean steps_128. known: "),
        ("tiny", {"steps_128": "many"}, "steps_128 must be a whole number, not the text 'many'"),
        ("tiny", {"steps_128": "9"}, "steps_128 must be a whole number, not the text '9'"),
        ("tiny", {"steps_128": 0}, "steps_128"),
        ("tiny", {"pretran": {"seed": 1}}, 'run: unknown step "pretran"; did you mean pretrain'),
        (
            "tiny",
            {"pretrain": {"weigth_decay": 1}},
            r"run: \[pretrain\] unknown setting .weigth_decay.; did you mean weight_decay",
        ),
        ("tiny", {"pretrain": 5}, "pretrain is 5; give the settings of that step"),
        ("tiny", {"tasks": {"nosuch": "x"}}, "nosuch"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose_run(name, settings)


def test_what_cannot_be_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothere"):
        run("tiny", tmp_path / "out", dump=tmp_path / "nothere.xml")
    assert not (tmp_path / "out" / "store").exists()


@pytest.mark.slow
def test_a_step_that_refuses_its_input_raises_with_its_message(tmp_path: Path) -> None:
    dump = tmp_path / "cut.xml"
    dump.write_bytes(Path(RUNS["tiny"].dump).read_bytes()[:60_000])
    with pytest.raises(ValueError, match=r"ingest: .*cut\.xml.*allow_truncated"):
        run("tiny", tmp_path / "out", dump=dump)


def test_a_step_and_a_setting_of_one_name_are_told_apart_by_the_value() -> None:
    assert "vocab" in STEPS
    assert choose_run("tiny", {"vocab": "v.txt"}).vocab == "v.txt"


@pytest.mark.slow
def test_ctrl_c_is_python_s_and_nothing_is_left_of_the_run(tmp_path: Path) -> None:
    program = """
import bertline, signal
try:
    bertline.run("tiny", out="out", steps_128=100_000)
except KeyboardInterrupt as error:
    print("caught:", error)
    print("handler:", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    command = [sys.executable, "-c", program]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, process_group=0, **pipes) as running:
        assert running.stdout is not None and running.stderr is not None
        for line in running.stderr:
            if "step 3 of 14" in line:
                os.killpg(running.pid, signal.SIGINT)
                break
        rest = running.stderr.read()
        caught, handler = running.stdout.read().splitlines()
    assert "Traceback" not in rest
    assert caught.startswith("caught: ended by Ctrl-C; finished steps are kept")
    assert handler == "handler: True"
    assert not list(tmp_path.rglob(".*.tmp"))
