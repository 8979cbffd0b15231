"""The verbs of a store: what `latest` led to, back to it, what may go, and an artifact out of a bucket."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertline.components.store.artifacts import Store
from bertline.components.store.bucket import EMULATOR_VARIABLE
from bertline.components.store.folder import CACHE_VARIABLE
from bertline.components.store.refs import LATEST, Entry, move_after_all
from bertline.components.store.remote import open_store
from bertline.pipelines.cli.main import main
from bertline.pipelines.latest import find_shown_place, link_latest
from fakes.storage_server import serving


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two artifacts of documents, and a run's notes of them."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"A sentence of {name}.\n\nAnother sentence.\n")
        assert main(["ingest", f"--text={folder / name}.txt", f"--out={folder / 'store' / 'documents' / name}"]) == 0
    return folder / "store"


@pytest.fixture
def store(documents: Path, tmp_path: Path) -> Path:
    shutil.copytree(documents, tmp_path / "store")
    for name in ("one", "two"):
        store = open_store(str(tmp_path / "store"))
        artifacts = {"ingest": str(tmp_path / "store" / "documents" / name)}
        link_latest(store, move_after_all(store.objects, LATEST, artifacts, f"run {name}"))
    return tmp_path / "store"


def test_the_history_is_listed_and_latest_rolled_back(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = store.with_name("latest") / "ingest"
    assert link.resolve().name == "two"
    one, two = (find_shown_place(Store(store), "ingest", store / "documents" / name) for name in ("one", "two"))
    assert (one, two) == (str(store / "documents" / "one"), str(link))
    assert main(["rollback", f"--store={store}"]) == 0
    assert link.resolve().name == "one"
    assert main(["history", f"--store={store}"]) == 0
    shown = capsys.readouterr().out
    assert "run one" in shown and "run two" in shown and "rollback to 1" in shown
    assert main(["rollback", f"--store={store}", "--to=7"]) == 2
    assert "no entry 7; there are: 1, 2, 3" in capsys.readouterr().err


def test_latest_is_not_rolled_back_to_what_is_gone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(store / "documents" / "one")
    assert main(["rollback", f"--store={store}"]) == 2
    assert "documents/one: no such artifact" in capsys.readouterr().err
    assert (store.with_name("latest") / "ingest").resolve().name == "two"
    assert len(list((store / "refs" / "latest").iterdir())) == 2


def test_a_ref_makes_no_link_elsewhere(store: Path, tmp_path: Path) -> None:
    entry = Entry(3, "", "", {"../own": str(store / "documents" / "one")})
    with pytest.raises(ValueError, match="is no name of a file below a folder"):
        link_latest(Store(store), entry)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [("gs://b", "names no artifact"), ("gs:", "names no"), ("nothere", "no such artifact"), ("damaged", "differs")],
)
def test_what_is_fetched_is_an_artifact_and_verified(
    source: str, said: str, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(documents / "documents" / "one", "damaged")
    file = next(path for path in Path("damaged").iterdir() if path.suffix not in (".json", ".html"))
    file.write_bytes(b"x" * file.stat().st_size)
    assert main(["fetch", source, "target"]) == 2
    assert said in capsys.readouterr().err and not Path("target").exists()


def test_garbage_is_listed_and_deleted_when_that_is_asked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(store / "documents" / "one", store / "documents" / "three")
    for path in store.rglob("*"):
        os.utime(path, (time.time() - 20 * 86400,) * 2)
    gc = ["gc", f"--store={store}", "--entries=1"]
    assert main(gc) == 0
    shown = capsys.readouterr().out
    assert "documents/one" in shown and "documents/three" in shown and "documents/two" not in shown
    assert "2 things" in shown and "to be deleted, with --delete" in shown
    assert (store / "documents" / "one").is_dir()
    assert main([*gc, "--delete"]) == 0
    assert [path.name for path in (store / "documents").iterdir()] == ["two"]
    assert main([*gc, "--delete"]) == 0
    assert "0 things" in capsys.readouterr().out


def test_a_store_without_runs_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", f"--store={tmp_path}"]) == 2
    assert "no run has ended well here" in capsys.readouterr().err


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "served" / "b").mkdir(parents=True)
    with serving(tmp_path / "served") as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "copies"))
        yield "gs://b/team/store"


def test_an_artifact_is_fetched_from_a_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bertline.components.declaration import make
    from bertline.components.step_table import INGEST

    (tmp_path / "text.txt").write_text("A sentence that is long enough to be kept.\n")
    store = open_store(bucket)
    made = make(INGEST, store, INGEST.config_class()(), {"text": str(tmp_path / "text.txt")})
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "another machine"))
    uri, target = store.uri_of(made.path), tmp_path / "documents"
    assert uri == f"gs://b/team/store/documents/{made.path.name}"
    assert main(["fetch", uri, str(target)]) == 0
    assert json.loads((target / "MANIFEST.json").read_text()) == made.manifest
    assert sorted(path.name for path in target.iterdir()) == sorted(
        path.name for path in made.path.iterdir() if path.name[0] != "."
    )
    assert main(["split", f"--documents={target}", f"--out={tmp_path / 'sentences'}"]) == 0
    assert main(["fetch", uri, str(target)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["fetch", f"{uri}0", str(tmp_path / "none")]) == 2
    assert "no such artifact" in capsys.readouterr().err
    assert main(["lineage", f"--store={bucket}", f"--out={tmp_path / 'page.html'}"]) == 0
    assert "text.txt" in (tmp_path / "page.html").read_text()
