"""The commands and the code of README.md and of all pages: run as a reader would run them, in the pages' order.

A fenced `sh` block is run, in a folder of its own that only holds the examples; so is a `python` block where what it
imports is installed. A `text` block with the title "prints" is what its page's commands print. What cannot be run here
(other machines, large text) is a `console` block: of it, as of every flag that the running text names, flags must be
known. Other `text` blocks, `json` and `toml` are output and files.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bertline.pipelines.cli.main import VERBS, main
from bertline.pipelines.cli.run_verb import read_run
from bertline.pipelines.cli.verbs import FlagParser, with_underscores

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LANGUAGES = {"sh", "console", "python", "pycon", "text", "json", "toml"}
OF_PYTHON = ROOT / "docs" / "python_api.md"  # tests/test_api.py runs it
AFTER = re.compile(r"^<!-- after: (.*) -->$", re.MULTILINE)  # the page whose commands come before a page's
TRIED_WITH = re.compile(r"^<!-- tried with: (.*) -->$", re.MULTILINE)  # OLD => NEW; ...: small text and few steps
OF_THE_PROCESS = {"versions", "checkout"}  # in RUN.json: what it had loaded, and where it lay
SHELL = re.compile(r"[|;&<]|\$\(")  # what makes a command one for the shell
OTHERS = {"--do_lower", "--markdown"}  # misspelt on purpose, and of tests/trace_sentence.py


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str

    def commands(self) -> list[str]:
        """Its commands, those of several lines as one; of a console block the lines after "$ "."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks_of(page: Path, *languages: str) -> list[Block]:
    found = [Block(*parts) for parts in FENCE.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if not languages or block.language in languages]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUN = [page for page in PAGES if blocks_of(page, "sh", "python") and page != OF_PYTHON]
COMMANDS = [
    pytest.param(command, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, command in enumerate(each for block in blocks_of(page, "sh", "console") for each in block.commands())
]


def parser_of(verb: str) -> ArgumentParser:
    parser = FlagParser(prog=f"bertline {verb}", allow_abbrev=False)
    VERBS[verb].add_flags(parser)
    return parser


def require_known(command: str) -> None:
    """Fails where a command of ours, or what a make target would call, has a flag or a setting that there is not."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        shown = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert shown
        for setting in re.findall(r"(?:DUMP|BOOKS|VOCAB|STEPS_128|STEPS_512|BATCH|OUT)=(\S+)", command):
            assert setting in shown
        for called in re.findall(r"^\S*bin/(bertline run .*)$", shown, re.MULTILINE):
            require_known(called)
    if not words[0].endswith("bertline"):
        return
    end = next((at for at, word in enumerate(words) if SHELL.search(word) or word in (">", "2>")), len(words))
    verb, flags = words[1], with_underscores(words[2:end])
    if verb.startswith("-") or "--help" in flags:
        return
    parsed = parser_of(verb).parse_args(flags)
    if verb == "run":
        parsed.config = None  # files of settings are read by tests of their own
        read_run(parsed)


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    for page in PAGES:
        assert {block.language for block in blocks_of(page)} <= LANGUAGES, page
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks_of(page)), page


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_flags_are_known(command: str) -> None:
    require_known(command)


def test_flags_in_running_text_are_known() -> None:
    known = {flag for verb in VERBS for flag in parser_of(verb)._option_string_actions} | OTHERS
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        if page.name in ("coming_from_bert.md", "decisions.md"):  # the originals' flags; what there was once
            continue
        for code in re.findall(r"`([^`\n]+)`", text):
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
                assert flag.rstrip(".") in known, (page, code)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "json", "python")], ids=name_of)
def test_json_and_python_can_be_read(page: Path) -> None:
    for block in blocks_of(page, "json"):
        try:
            json.loads(block.text)
        except json.JSONDecodeError:
            assert all(json.loads(line) for line in block.text.splitlines())
    for block in blocks_of(page, "python"):
        if not block.title:  # one with a title is a part of a file, tried by tests of its own
            compile(block.text, name_of(page), "exec")


class Reader:
    """Runs the blocks of pages in one folder, each page once, after those that it goes on from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[Path] = set()
        (folder / "out").mkdir()
        for shared in ("examples", "Makefile", "benchmarks"):
            (folder / shared).symlink_to(ROOT / shared)

    def follow(self, page: Path) -> None:
        if page in self.done:
            return
        for before in AFTER.findall(page.read_text(encoding="utf-8")):
            self.follow(ROOT / "docs" / before)
        names: dict[str, object] = {}
        printed = ""
        for block in blocks_of(page, "sh", "python", "text"):
            block = replace(block, text=with_toys(page, block.text))
            if block.language == "text":
                for line in block.text.splitlines() if block.title == "prints" else ():
                    assert line.strip() in printed, (name_of(page), line)
            elif block.language == "sh":
                printed += "".join(map(self.run, block.commands()))
            elif not block.title and is_installed(block.text):
                exec(compile(block.text, name_of(page), "exec"), names)
        self.done.add(page)

    def run(self, command: str) -> str:
        """Run a command of a page; returns what it printed."""
        words = shlex.split(command)
        if words[0] == "make":  # checked above, and by tests of what it calls
            return ""
        bertline = [sys.executable, "-m", "bertline"]
        if words[0].endswith("bertline") and not SHELL.search(command) and "--backend=jax" not in words:
            redirected = words[-1] if words[-2] == ">" else ""
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                assert main(words[1 : -2 if redirected else None]) == 0, command
            if redirected:
                (self.folder / redirected).write_text(shown.getvalue(), encoding="utf-8")
            return shown.getvalue()
        command = re.sub(r"(?<![\w/])(\.venv/bin/)?bertline(?= )", shlex.join(bertline), command)
        ended = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


def with_toys(page: Path, text: str) -> str:
    """A page's text with what it is to be tried with."""
    whole = page.read_text(encoding="utf-8")
    for pairs in TRIED_WITH.findall(whole):
        for old, new in (pair.split(" => ") for pair in pairs.split("; ")):
            assert f"{old}" in TRIED_WITH.sub("", whole), (page, old)
            text = text.replace(old, new)
    return text


def is_installed(code: str) -> bool:
    """Whether all that some code imports is there."""
    modules = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    return all(importlib.util.find_spec(module) for module in modules)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    before = Path.cwd()
    os.chdir(folder)
    yield Reader(folder)
    os.chdir(before)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_pages_commands_and_code_run(page: Path, reader: Reader) -> None:
    reader.follow(page)


@pytest.mark.slow
def test_the_files_that_pages_show_have_these_keys(reader: Reader) -> None:
    shown = [block for page in PAGES for block in blocks_of(page, "json") if block.title]
    assert shown
    for page in RUN:
        reader.follow(page)
    for block in shown:
        made = (reader.folder / block.title).read_text(encoding="utf-8")
        assert list(map(shape_of, read_json(block.text))) == list(map(shape_of, read_json(made))), block.title


def read_json(text: str) -> list[object]:
    """The values in a JSON file, or in each line of one of JSON lines."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def shape_of(value: object) -> object:
    """The keys of a JSON value at any depth, and the types of what they hold."""
    if isinstance(value, dict):
        return {key: shape_of(each) for key, each in value.items() if key not in OF_THE_PROCESS}
    if isinstance(value, list):
        return [shape_of(each) for each in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
