"""What may go of a store: nothing that a ref, a recent run or a running job leads to, nor what those are made of."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertline.components.store import mirror
from bertline.components.store.artifacts import Artifact, Provenance, Store, publish
from bertline.components.store.bucket import EMULATOR_VARIABLE, Bucket
from bertline.components.store.garbage import LEFT, UNUSED, find_garbage
from bertline.components.store.refs import move, read_history
from bertline.components.store.remote import BucketStore
from fakes.storage_server import serving


@dataclass(frozen=True)
class Config:
    size: int = 1


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        yield Store(tmp_path / "files")
        return
    (tmp_path / "files").mkdir()
    with serving(tmp_path) as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        yield BucketStore(tmp_path / "copies", Bucket("gs://files"))


def age(root: Path, days: float) -> None:
    """Let all files below have been changed so long ago."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - days * 86400,) * 2)


def make(store: Store, kind: str, size: int = 1, source: Artifact | None = None, fails: bool = False) -> Artifact:
    def write(out: Path, work: Path) -> dict[str, int]:
        work.mkdir(parents=True)
        (work / "snapshot").write_text("s")
        (out / "data").write_text(kind * size)
        if fails:
            raise RuntimeError("killed")
        return {}

    inputs = {"source": [source.path]} if source else {}
    return publish(store, Provenance(kind, "ingest", inputs, Config(size), ["bertline.files"]), write)


def names(store: Store) -> dict[str, str]:
    return {each.name.partition(".")[0]: each.why for each in find_garbage(store.objects, entries=1)}


def name_of(made: Artifact) -> str:
    return "/".join(made.path.parts[-2:])


def test_what_a_ref_leads_to_stays_with_all_that_it_was_made_of(store: Store, tmp_path: Path) -> None:
    documents = make(store, "documents")
    records = make(store, "records", source=documents)
    other = make(store, "other")
    for number, made in enumerate((other, records)):
        move(
            store.objects,
            "latest",
            {"task": store.uri_of(made.path)},
            f"run {number}",
            read_history(store.objects, "latest"),
        )
    assert names(store) == {}  # all of it is young
    age(tmp_path / "files", 15)
    assert names(store) == {name_of(other): UNUSED}


def test_what_a_recent_run_used_stays(store: Store, tmp_path: Path) -> None:
    documents, other = make(store, "documents"), make(store, "other")
    age(tmp_path / "files", 15)
    store.write_note("runs/r/split.json", json.dumps({"task": "split", "path": store.uri_of(documents.path)}))
    store.write_note("runs/r/bad.json", json.dumps({"task": "bad", "error": "refused"}))
    assert names(store) == {name_of(other): UNUSED}


def test_work_goes_when_nobody_has_gone_on_with_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_MIRRORINGS", 0.05)
    with pytest.raises(RuntimeError, match="killed"):
        make(store, "documents", fails=True)
    assert names(store) == {}
    age(tmp_path / "files", 15)
    (why,) = names(store).values()
    assert why == LEFT


def test_the_manifest_goes_first(store: Store, tmp_path: Path) -> None:
    made = make(store, "documents")
    age(tmp_path / "files", 15)
    (garbage,) = find_garbage(store.objects)
    assert garbage.objects[0] == f"{name_of(made)}/MANIFEST.json" and garbage.size_bytes > 100
    store.objects.delete(garbage.objects)
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert not make(store, "documents").reused


def test_an_attempt_that_was_not_committed_goes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    with serving(tmp_path) as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        store = BucketStore(tmp_path / "copies", Bucket("gs://files"))
        made = make(store, "documents")
        move(store.objects, "latest", {"task": store.uri_of(made.path)}, "run", [])
        store.bucket.create(f"{name_of(made)}/0123/data", b"half")
        (garbage,) = find_garbage(store.objects, days=0)  # aged files would be other generations
        assert (garbage.name, garbage.why, garbage.size_bytes) == (f"{name_of(made)}/0123", LEFT, 4)


@pytest.mark.parametrize("given", [{"days": -1}, {"days": float("nan")}, {"entries": 0}, {"entries": -1}])
def test_numbers_that_would_keep_nothing_or_something_else_are_refused(given: dict, store: Store) -> None:
    with pytest.raises(ValueError, match="at least 1 entry and 0 days"):
        list(find_garbage(store.objects, **given))


def test_of_two_processes_that_delete_both_end_well(store: Store, tmp_path: Path) -> None:
    made = make(store, "documents")
    age(tmp_path / "files", 15)

    class Beside:
        """The objects, of which another process deletes all once they are listed."""

        def list(self) -> list:
            found = list(store.objects.list())
            store.objects.delete([each.name for each in found])
            return found

        def __getattr__(self, name: str) -> object:
            return getattr(store.objects, name)

    found = list(find_garbage(Beside()))
    assert [each.name for each in found if each.name == name_of(made)]
    store.objects.delete([name for each in found for name in each.objects])


def test_what_cannot_be_read_is_named(store: Store) -> None:
    store.objects.write("runs/r/split.json", b"[]")
    with pytest.raises(ValueError, match=r"runs/r/split.json: damaged \(it is no dict\); remove it"):
        list(find_garbage(store.objects))
