from pathlib import Path

import pytest

from bertline.components.store import fingerprint as code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "loop.py").write_text("def f():\n    from bertline.model import optimizer\n")
    (tmp_path / "model" / "optimizer.py").write_text("RATE = 1\n")
    (tmp_path / "model" / "page.py").write_text("TITLE = 1\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    code.code_fingerprint.cache_clear()
    yield tmp_path
    code.code_fingerprint.cache_clear()


def fingerprint() -> str:
    code.code_fingerprint.cache_clear()
    return code.code_fingerprint(("bertline.model.loop",))


def test_a_change_in_code_that_is_imported_anywhere_changes_the_fingerprint(package: Path) -> None:
    before = fingerprint()
    (package / "model" / "optimizer.py").write_text("RATE = 2\n")
    assert fingerprint() != before


def test_a_change_in_other_code_does_not(package: Path) -> None:
    before = fingerprint()
    (package / "model" / "page.py").write_text("TITLE = 2\n")
    assert fingerprint() == before


def test_the_real_records_depend_on_tokenizer_and_masks() -> None:
    reached = code._reached(("bertline.components.pretraining_data.prepare",))
    assert {"bertline.tokenizer.wordpiece", "bertline.model.records.masking", "bertline.model.records.reader"} <= set(
        reached
    )
    assert "bertline.components.pages.lineage" not in reached
