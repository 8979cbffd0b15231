"""Refs: one of several processes moves one, nothing of its history is lost, on a folder and in a bucket alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bertline.components.store.bucket import EMULATOR_VARIABLE, Bucket
from bertline.components.store.folder import Folder
from bertline.components.store.refs import MovedError, move, read_history, roll_back
from fakes.storage_server import serving


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "folder":
        yield Folder(tmp_path / "store")
        return
    (tmp_path / "b").mkdir()
    with serving(tmp_path) as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        yield Bucket("gs://b/store")


def test_a_ref_moves_and_keeps_what_it_was(objects: Any) -> None:
    for number in (1, 2, 2):
        move(objects, "latest", {"export": f"e{number}"}, f"run {number}", read_history(objects, "latest"))
    history = read_history(objects, "latest")
    assert [(entry.number, entry.reason, entry.artifacts) for entry in history] == [
        (1, "run 1", {"export": "e1"}),
        (2, "run 2", {"export": "e2"}),
    ]
    assert read_history(objects, "best") == []


def test_a_ref_is_rolled_back_by_an_entry_of_its_own(objects: Any) -> None:
    for number in (1, 2, 3):
        move(objects, "latest", {"export": f"e{number}"}, f"run {number}", read_history(objects, "latest"))
    assert roll_back(objects, "latest").artifacts == {"export": "e2"}
    assert roll_back(objects, "latest", 1).reason == "rollback to 1"
    assert [entry.artifacts["export"] for entry in read_history(objects, "latest")] == ["e1", "e2", "e3", "e2", "e1"]
    with pytest.raises(ValueError, match="no entry 9; there are: 1, 2, 3, 4, 5"):
        roll_back(objects, "latest", 9)
    with pytest.raises(ValueError, match="no entry before the last; there are: none"):
        roll_back(objects, "best")


def test_of_eight_processes_that_have_read_the_same_one_moves_it(objects: Any) -> None:
    move(objects, "latest", {"export": "e"}, "run", [])
    history = read_history(objects, "latest")

    def try_to_move(number: int) -> bool:
        try:
            move(objects, "latest", {"export": f"e{number}"}, "run", history)
        except MovedError:
            return False
        return True

    assert sum(ThreadPoolExecutor(8).map(try_to_move, range(8))) == 1
    assert len(read_history(objects, "latest")) == 2


def test_a_damaged_entry_is_named(objects: Any) -> None:
    objects.create("refs/latest/000001.json", b"{")
    with pytest.raises(ValueError, match=r"refs/latest/000001.json: damaged .*; remove it"):
        read_history(objects, "latest")
