"""The way of a sentence: few files, in the order of docs/one_sentence.md, in rooms that can be surveyed."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "one_sentence.md"
MOST_FILES = 40
MOST_MODULES = 14
FLOORS = ("components", "model", "pipelines", "tokenizer", "src/bertline")


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> list[str]:
    """The files that a tiny run enters, in order, without manifests, progress, pages and rates."""
    tool = runpy.run_path(str(ROOT / "tests" / "trace_sentence.py"))
    return tool["on_the_way"](tool["files_of"](tool["trace_run"](tmp_path_factory.mktemp("trace"))))


@pytest.mark.slow
def test_a_sentence_passes_few_files(way):
    assert len(way) <= MOST_FILES, way


@pytest.mark.slow
def test_the_page_names_the_files_in_the_order_of_the_way(way):
    page = PAGE.read_text(encoding="utf-8")
    numbered = re.findall(r"^\d+\. `([^`]+)`", page, re.MULTILINE)
    beside = re.findall(r"^- `([^`]+)`", page, re.MULTILINE)
    assert numbered == [file for file in way if file not in beside]
    assert sorted(beside) == sorted(set(way) - set(numbered))


def test_no_room_holds_more_modules_than_a_reader_can_survey():
    modules = [file for floor in FLOORS for file in (ROOT / floor).glob("**/*.py") if file.name != "__init__.py"]
    rooms = Counter(file.parent.relative_to(ROOT).as_posix() for file in modules)
    assert {room: count for room, count in rooms.items() if count > MOST_MODULES} == {}
