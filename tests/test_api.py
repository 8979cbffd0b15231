"""The Python API: a few names, loaded when they are first used, and the page that tells of them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bertline

ROOT = Path(__file__).parents[1]
NAMES = ["Tokenizer", "__version__", "load_model", "read_records", "run"]
SOURCE = ast.parse((ROOT / "src" / "bertline" / "__init__.py").read_text(encoding="utf-8"))


def test_importing_bertline_loads_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import bertline; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-Sc", script], capture_output=True, text=True, check=True, env=_path())
    assert loaded.stdout.split() == ["bertline"]


def _path() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "src")}


def test_the_names_are_offered_and_found() -> None:
    assert bertline.__all__ == NAMES
    assert set(NAMES) <= set(dir(bertline))
    for name in NAMES:
        assert getattr(bertline, name) is not None
        assert name == "__version__" or getattr(bertline, name).__doc__
    assert bertline.Tokenizer is bertline.Tokenizer
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bertline.__version__ == project["version"]


def test_another_name_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load'; it has Tokenizer, __version__, load_model"):
        _ = bertline.load  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from bertline import load  # type: ignore[attr-defined]  # noqa: F401


def test_type_checkers_see_the_names_where_they_are_loaded_from() -> None:
    (block,) = [node for node in SOURCE.body if isinstance(node, ast.If)]
    assert isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
    seen = {each.names[0].name: each.module for each in block.body if isinstance(each, ast.ImportFrom)}
    assert seen == bertline._HOMES
    assert (ROOT / "src" / "bertline" / "py.typed").is_file()
