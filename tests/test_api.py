"""The Python API: a few names, loaded when they are first used, and the page that tells of them."""

import ast
import doctest
import io
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

import bertline
from bertline.components.store.manifests import verify

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
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
    (block,) = [node for node in SOURCE.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    assert block.test.id == "TYPE_CHECKING"
    seen = {each.names[0].name: each.module for each in block.body if isinstance(each, ast.ImportFrom)}
    assert seen == bertline._HOMES
    assert (ROOT / "src" / "bertline" / "py.typed").is_file()


def test_the_page_tells_of_every_name() -> None:
    assert all(f"`bertline.{name}" in PAGE for name in NAMES)


def blocks_of(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def require_outputs(sessions: Iterable[str], names: dict[str, Any]) -> None:
    """The sessions, one after the other, print what stands below their lines; "..." stands for anything."""
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), names, "python_api.md", None, 0)
    told = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.write, clear_globs=False)
    assert told.getvalue() == ""


def test_the_page_shows_what_the_tokenizer_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "latest" / "vocabulary").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "data" / "vocab.txt", tmp_path / "out" / "latest" / "vocabulary")  # the example's
    monkeypatch.chdir(tmp_path)
    (section,) = [part for part in PAGE.split("\n## ") if part.startswith("`bertline.Tokenizer`")]
    require_outputs(blocks_of(section, "pycon"), {"bertline": bertline})


@pytest.mark.slow
def test_the_page_shows_what_a_run_and_its_model_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with redirect_stderr(io.StringIO()) as told:
        exec("\n".join(blocks_of(PAGE, "python")), names)
    assert "ingest: done in" in told.getvalue()
    require_outputs(blocks_of(PAGE, "pycon"), names)
    result = names["result"]
    for folder in result.artifacts.values():
        verify(folder)
    assert result.lineage.is_file() and result.log.is_file()
    assert (tmp_path / "out" / "latest" / "export").resolve() == result.export.resolve()
