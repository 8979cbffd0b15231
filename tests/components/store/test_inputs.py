"""Inputs in a bucket are files of this machine when they are wanted, and come again once they are others."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertline.components.store.bucket import EMULATOR_VARIABLE
from bertline.components.store.folder import CACHE_VARIABLE
from bertline.components.store.inputs import bring, require_there
from fakes.storage_server import StorageServer, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    for name, content in {
        "dump.xml": "<mediawiki>",
        "books/one.txt": "one",
        "books/two.txt": "two",
        "books/more/three.txt": "three",
        "bookshelf.txt": "not a book",
        "model/vocab.txt": "[PAD]",
        "model/variables/0": "0",
        "model/empty": "",
        "shelf/Who is it? [1].txt": "one book",
        "shelf/Who is it? [2].txt": "another",
    }.items():
        path = tmp_path / "served" / "b" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with serving(tmp_path / "served") as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
        yield server


def contents(text: str) -> list[str]:
    return [Path(each).read_text() for each in text.split(",")]


def test_objects_folders_and_patterns_become_paths(server: StorageServer, tmp_path: Path) -> None:
    assert contents(bring("gs://b/dump.xml")) == ["<mediawiki>"]
    assert contents(bring("gs://b/books/*.txt")) == ["one", "two"]
    (tmp_path / "own.txt").write_text("own")
    assert contents(bring(f"{tmp_path / 'own.txt'},gs://b/books/tw?.txt")) == ["own", "two"]
    folder = Path(bring("gs://b/model/"))
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "empty",
        "variables/0",
        "vocab.txt",
    ]
    assert sorted(path.name for path in Path(bring("gs://b/books")).rglob("*.txt")) == [
        "one.txt",
        "three.txt",
        "two.txt",
    ]
    assert bring("plain,a/*.txt") == "plain,a/*.txt"


def test_a_name_like_a_pattern_is_a_name_first(server: StorageServer) -> None:
    assert contents(bring("gs://b/shelf/Who is it? [1].txt, gs://b/shelf/Who is it? [2].txt")) == [
        "one book",
        "another",
    ]


def test_what_was_an_object_can_become_a_folder_and_the_other_way_round(server: StorageServer, tmp_path: Path) -> None:
    copies = tmp_path / "cache" / "inputs" / "b"
    (copies / "dump.xml").mkdir(parents=True)
    (copies / "dump.xml" / "part").write_text("of a folder that is gone")
    (copies / "model").write_text("of an object that is gone")
    assert contents(bring("gs://b/dump.xml")) == ["<mediawiki>"]
    assert (Path(bring("gs://b/model")) / "vocab.txt").read_text() == "[PAD]"


@pytest.mark.parametrize("uri", ["gs://b//etc/passwd", "gs://b/../passwd", "gs://b/books/../../passwd"])
def test_names_that_lead_elsewhere_are_refused(uri: str, server: StorageServer) -> None:
    with pytest.raises(ValueError, match="is no name of a file"):
        bring(uri)


def test_what_is_here_does_not_come_twice_and_what_was_changed_does(server: StorageServer, tmp_path: Path) -> None:
    bring("gs://b/books/*.txt")
    before = len(server.reads)
    assert contents(bring("gs://b/books/*.txt")) == ["one", "two"]
    assert len(server.reads) == before
    changed = tmp_path / "served" / "b" / "books" / "two.txt"
    changed.write_text("TWO")
    os.utime(changed, (time.time() + 5, time.time() + 5))
    (tmp_path / "served" / "b" / "model" / "vocab.txt").unlink()
    assert contents(bring("gs://b/books/*.txt")) == ["one", "TWO"]
    folder = Path(bring("gs://b/model"))
    assert not (folder / "vocab.txt").exists()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gs://b/dumpp.xml", "gs://b/dumpp.xml: nothing is called so"),
        ("gs://b/dump", "gs://b/dump: nothing is called so"),
        ("gs://b/none/*.txt", r"gs://b/none/\*.txt: nothing is called so"),
        ("gs://b", "gs://b: names a bucket alone"),
        ("gs://other/dump.xml", "gs://other/dump.xml: no such"),
    ],
)
def test_what_is_not_there_is_named(uri: str, said: str, server: StorageServer) -> None:
    for ask in (bring, require_there):
        with pytest.raises((FileNotFoundError, ValueError), match=said):
            ask(uri)
