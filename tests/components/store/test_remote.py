"""A store in a bucket: one commit of several writers, whatever befalls the requests, and work that goes on."""

import json
import multiprocessing
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertline.components.store import mirror
from bertline.components.store.artifacts import Artifact, Provenance, Store, publish
from bertline.components.store.bucket import Bucket
from bertline.components.store.manifests import MANIFEST, verify
from bertline.components.store.remote import BucketStore
from fakes.storage_server import Fault, Request, StorageServer


@dataclass(frozen=True)
class Config:
    size: int = 1


@pytest.fixture
def machine(tmp_path: Path, server: StorageServer) -> Callable[[str], BucketStore]:
    """A machine of that name with an empty disk."""
    return lambda name, **given: BucketStore(tmp_path / name, Bucket("gs://b/store"), **given)


def provenance(*inputs: Path, kind: str = "documents", size: int = 1) -> Provenance:
    return Provenance(kind, "ingest", {"documents": inputs} if inputs else {}, Config(size), ["bertline.files"])


def write(out: Path, work: Path) -> dict[str, int]:
    (out / "part").mkdir()
    (out / "part" / "0.txt").write_text("a" * 1000)
    (out / "1.txt").write_text("b" * 10)
    (out / "page.html").write_text("<p>")
    return {"documents": 2}


def objects(tmp_path: Path) -> list[str]:
    folder = tmp_path / "served" / "b" / "store"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_another_machine_finds_what_was_made_and_gets_its_files_when_it_needs_them(
    machine: Callable[..., BucketStore], server: StorageServer
) -> None:
    made = publish(machine("first"), provenance(), write)
    second = machine("second")
    before = len(server.reads)
    found = publish(second, provenance(), lambda out, work: pytest.fail("made again"))
    assert found.reused and found.manifest == made.manifest
    assert not [name for name in server.reads[before:] if name.endswith(".txt")]
    assert not (found.path / "1.txt").exists()
    second.fetch([found.path])
    assert verify(found.path) == made.manifest
    assert (found.path / "page.html").read_text() == "<p>"
    assert second.uri_of(found.path) == f"gs://b/store/documents/{found.path.name}"
    assert machine("third").folder_of(second.uri_of(found.path)).name == found.path.name


def test_a_step_gets_its_inputs(machine: Callable[..., BucketStore]) -> None:
    first, second = machine("first"), machine("second")
    made = publish(first, provenance(), write)
    given = second.folder_of(first.uri_of(made.path))

    def count(out: Path, work: Path) -> dict[str, int]:
        (out / "count").write_text((given / "part" / "0.txt").read_text().upper())
        return {}

    split = publish(second, provenance(given, kind="sentences"), count)
    assert (split.path / "count").read_text() == "A" * 1000
    assert split.manifest["inputs"][0]["digest"] == made.manifest["digest"]


def test_of_eight_machines_one_commits_and_all_end_well(machine: Callable[..., BucketStore], tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def make(out: Path, work: Path) -> dict[str, int]:
        barrier.wait()
        (out / "who").write_text(threading.current_thread().name)  # what a program that does not repeat itself makes
        return {}

    ended: list[Artifact] = []
    threads = [
        threading.Thread(target=lambda name=f"m{number}": ended.append(publish(machine(name), provenance(), make)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 8 and len({made.manifest["digest"] for made in ended}) == 1
    assert sum(not made.reused for made in ended) == 1
    attempts = {name.split("/")[2] for name in objects(tmp_path)}
    assert len(attempts) == 2 and MANIFEST in attempts  # nothing is left of those who came second
    last = machine("last")
    last.fetch([publish(last, provenance(), make).path])


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_damaged_artifact_is_found_and_made_again(
    harm: str, machine: Callable[..., BucketStore], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = publish(machine("first"), provenance(), write)
    (file,) = (tmp_path / "served" / "b" / "store" / "documents").rglob("0.txt")
    if harm == "changed":
        file.write_text("c" * 1000)
    else:
        file.unlink()
    again = publish(machine("second"), provenance(), write)
    assert not again.reused and again.manifest == made.manifest
    assert "part/0.txt is" in capsys.readouterr().err
    third = machine("third")
    found = publish(third, provenance(), write)
    assert found.reused
    third.fetch([found.path])


def test_a_manifest_that_was_changed_is_found_though_it_is_one(machine: Callable[..., BucketStore]) -> None:
    first = machine("first")
    made = publish(first, provenance(), write)
    name = f"documents/{made.path.name}/{MANIFEST}"
    commit = first.bucket.find(name)
    assert commit is not None
    changed = first.bucket.read(name).replace(b"page.html", b"rage.html")
    first.bucket.replace(name, changed, commit.generation, **commit.notes)
    second = machine("second")
    again = publish(second, provenance(), write)
    assert not again.reused and again.manifest == made.manifest


def test_a_copy_of_this_machine_that_was_changed_comes_again(machine: Callable[..., BucketStore]) -> None:
    publish(machine("first"), provenance(), write)
    second = machine("second")
    path = publish(second, provenance(), write).path
    second.fetch([path])
    (path / "part" / "0.txt").write_text("c" * 1000)
    second.fetch([path])
    assert (path / "part" / "0.txt").read_text() == "a" * 1000


def test_processes_of_one_machine_share_its_copies(machine: Callable[..., BucketStore], tmp_path: Path) -> None:
    made = [publish(machine("first"), provenance(size=size), write) for size in range(5)]
    uris = [machine("first").uri_of(each.path) for each in made]

    def take() -> None:
        store = machine("second")
        store.fetch([store.folder_of(uri) for uri in uris])

    processes = [multiprocessing.get_context("fork").Process(target=take) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def test_another_machine_goes_on_with_the_work_of_one_that_was_killed(
    machine: Callable[..., BucketStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_MIRRORINGS", 0.05)
    mirrored = threading.Event()

    def begin(out: Path, work: Path) -> dict[str, int]:
        work.mkdir(parents=True)
        (work / ".draft").write_text("half")
        (work / "step-1").mkdir()
        (work / "step-1" / "weights").write_text("1")
        while not [name for name in objects(tmp_path) if name.endswith("INDEX.json")]:
            mirrored.wait(0.05)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        publish(machine("first"), provenance(), begin)
    shutil.rmtree(tmp_path / "first")

    def go_on(out: Path, work: Path) -> dict[str, int]:
        assert sorted(path.name for path in work.rglob("*")) == ["step-1", "weights"]
        (out / "weights").write_text((work / "step-1" / "weights").read_text() + "2")
        return {}

    made = publish(machine("second"), provenance(), go_on)
    assert (made.path / "weights").read_text() == "12"
    assert not [name for name in objects(tmp_path) if name.startswith("resume/")]


def test_of_two_machines_that_make_the_same_one_has_its_work_in_the_bucket(
    machine: Callable[..., BucketStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that began last, with what the other had left by then."""
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_MIRRORINGS", 1000)  # as told below
    served = tmp_path / "served" / "b" / "store"
    mirrors = [
        mirror.WorkMirror(machine("any").bucket, "resume/documents/1", tmp_path / name / "1.work")
        for name in ("one", "two", "three")
    ]

    def work(number: int, name: str) -> None:
        each = mirrors[number]
        each.folder.mkdir(parents=True, exist_ok=True)
        (each.folder / name).write_text(f"{number} {name}")
        each._carry_new()

    mirrors[0].restore()
    work(0, "a")
    mirrors[1].restore()
    before = len(list(served.rglob("*")))
    work(1, "b")
    assert len(list(served.rglob("*"))) == before + 1, "what came from the bucket is there already"
    work(0, "c")
    work(0, "d")
    assert [each.is_followed for each in mirrors] == [False, True, True]
    work(1, "e")
    mirrors[2].restore()
    found = {path.name: path.read_text() for path in mirrors[2].folder.iterdir()}
    assert found == {"a": "0 a", "b": "1 b", "e": "1 e"}
    index = json.loads((served / "resume" / "documents" / "1" / "INDEX.json").read_text())
    assert len(list((served / "resume" / "documents" / "1").iterdir())) == len(index) + 1, "nothing else is left"


def asked_for(server: StorageServer, work: mirror.WorkMirror) -> list[str]:
    """The methods of what is asked of the bucket until it has all of a work folder; a list of objects is "list"."""
    before = len(server.requests)
    with pytest.raises(KeyboardInterrupt), work.following():
        raise KeyboardInterrupt
    asked = [each for each in server.requests[before:] if not each.path.startswith("/storage/v1/b/b?")]  # the client's
    return ["list" if "/o?" in each.path and each.method == "GET" else each.method for each in asked]


def test_no_list_of_a_work_folder_is_needed_nor_what_the_bucket_has_sent_again(
    server: StorageServer, tmp_path: Path
) -> None:
    def begin(name: str) -> mirror.WorkMirror:
        work = mirror.WorkMirror(Bucket("gs://b/store"), "resume/records/1", tmp_path / name)
        work.restore()
        return work

    (tmp_path / "first").mkdir()
    for number in range(5):
        (tmp_path / "first" / f"part-{number}").write_text("x")
    assert asked_for(server, begin("first")).count("POST") == 6  # and the index
    assert asked_for(server, begin("first")) == []
    second = begin("second")
    assert asked_for(server, second) == []
    (tmp_path / "second" / "part-9").write_text("y")
    (tmp_path / "second" / "part-0").unlink()
    assert asked_for(server, second) == ["POST", "POST", "POST"]  # the file, the index, a batch that deletes
    begin("third")
    assert sorted(path.name for path in (tmp_path / "third").iterdir()) == [f"part-{each}" for each in (1, 2, 3, 4, 9)]
    assert len(objects(tmp_path)) == 6


def test_manifests_are_taken_without_a_list_of_all_files(
    machine: Callable[..., BucketStore], server: StorageServer
) -> None:
    first, second = machine("first"), machine("second")
    made = [publish(first, provenance(size=size), write) for size in range(2)]
    before = len(server.requests)
    second.take_manifests()
    asked = [each.path for each in server.requests[before:]]
    assert len([path for path in asked if "alt=media" in path]) == 4
    (listed,) = (path for path in asked if "/o?" in path)
    assert "matchGlob=store%2F%2A%2F%2A%2FMANIFEST.json" in listed
    assert not [path for path in asked if "/o/" in path and "alt=media" not in path]
    assert {path.parent.name for path in second.root.rglob(MANIFEST)} == {each.path.name for each in made}


def test_copies_that_are_longest_unused_give_way_to_the_budget(machine: Callable[..., BucketStore]) -> None:
    first = machine("first")
    made = [publish(first, provenance(size=size), write) for size in range(3)]
    one = sum(path.stat().st_size for path in made[0].path.rglob("*") if path.is_file())
    small = machine("small", budget_bytes=2 * one)
    for each in made:
        folder = small.folder_of(first.uri_of(each.path))
        small.fetch([folder])
        verify(folder)
    kept = [folder.parent.name for folder in small.root.glob("documents/*/1.txt")]
    assert sorted(kept) == sorted(each.path.name for each in made[1:])


@pytest.mark.parametrize("seed", range(2))
def test_faults_change_no_byte(seed: int, machine: Callable[..., BucketStore], server: StorageServer) -> None:
    chance = random.Random(seed)
    faults = [Fault(code=503), Fault(is_lost=True), Fault(cut_share=0.9), Fault(stall_seconds=0.7)]

    def befall(request: Request) -> Fault | None:
        return chance.choice(faults) if chance.random() < 1 / 3 else None

    server.fault = befall
    made = publish(machine("first"), provenance(), write)
    second = machine("second")
    found = publish(second, provenance(), write)
    second.fetch([found.path])
    local = publish(Store(second.root / "local"), provenance(), write)
    assert made.manifest == found.manifest == local.manifest
    assert not made.reused and found.reused
    assert json.loads((found.path / MANIFEST).read_text()) == local.manifest
