"""Whatever the documents of a store hold, its readers go on or refuse them by name, and write nothing elsewhere."""

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.pages.lineage import write_page
from bertline.components.store.artifacts import Artifact, Provenance, publish
from bertline.components.store.bucket import EMULATOR_VARIABLE, Bucket
from bertline.components.store.folder import ORIGIN
from bertline.components.store.garbage import find_garbage
from bertline.components.store.manifests import MANIFEST
from bertline.components.store.refs import move, read_history
from bertline.components.store.remote import BucketStore
from bertline.pipelines.latest import roll_latest_back
from fakes.storage_server import serving


@dataclass(frozen=True)
class Config:
    size: int = 1


PROVENANCE = Provenance("documents", "ingest", {}, Config(), ["bertline.files"])
KINDS = ["manifest", "objects", "index", "ref", "note", "origin"]
BAD_NAMES = ["../evil", "../../../../evil", "/tmp/evil", "", ".", "part//0.txt", "a\0b"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3) | st.sampled_from(BAD_NAMES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(BAD_NAMES), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "b").mkdir()
    with serving(folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMULATOR_VARIABLE, server.url)
        yield folder


def write(out: Path, work: Path) -> dict[str, int | float]:
    (out / "part").mkdir()
    (out / "part" / "0.txt").write_text("a")
    (out / "page.html").write_text("<p>")
    return {"documents": 1}


@st.composite
def harmed(draw: st.DrawFn, document: Any) -> bytes:
    """The document with another value at some place, without a key, cut, or with a byte changed."""
    content = json.dumps(document).encode()
    how = draw(st.sampled_from(["value", "value", "value", "key", "cut", "byte"]))
    if how == "cut":
        return content[: draw(st.integers(0, len(content) - 1))]
    if how == "byte":
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    changed = {"document": copy.deepcopy(document)}
    place, key = changed, "document"
    while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    if how == "key" and isinstance(place, dict) and key != "document":
        place[draw(st.sampled_from(BAD_NAMES))] = place.pop(key)
    else:
        place[key] = draw(VALUES)
    return json.dumps(changed["document"]).encode()


def prepare(folder: Path) -> tuple[BucketStore, Artifact, dict[str, str]]:
    """A store with an artifact, a ref of two entries and a note; where its documents lie."""
    store = BucketStore(folder / "first", Bucket(f"gs://b/{folder.name}/store"))
    made = publish(store, PROVENANCE, write)
    name, uri = f"documents/{made.path.name}", store.uri_of(made.path)
    for number in (1, 2):
        move(store.objects, "latest", {f"task_{number}": uri}, "run", read_history(store.objects, "latest"))
    store.write_note("runs/r/split.json", json.dumps({"task": "split", "path": uri, "seconds": 1.5, "reused": False}))
    commit = store.bucket.find(f"{name}/{MANIFEST}")
    assert commit is not None
    return store, made, {
        "manifest": f"{name}/{MANIFEST}",
        "objects": f"{name}/{commit.notes['attempt']}/OBJECTS.json",
        "index": f"resume/{name}/INDEX.json",
        "ref": "refs/latest/000002.json",
        "note": "runs/r/split.json",
    }  # fmt: skip


def put(store: BucketStore, name: str, content: bytes) -> None:
    """Write an object over, with the notes that it has."""
    found = store.bucket.find(name)
    store.bucket.replace(name, content, found.generation if found else 0, **(found.notes if found else {}))


def read_all(store: BucketStore, uri: str) -> None:
    """All that reads documents: what cannot be read is refused."""
    for read in (
        lambda: store.fetch([store.folder_of(uri)]),
        lambda: read_history(store.objects, "latest"),
        lambda: roll_latest_back(store),
        lambda: read_run_notes(store.objects, "r"),
        lambda: list(find_garbage(store.objects, days=0)),
        lambda: write_page(store, store.root / "page.html"),
    ):
        with contextlib.suppress(ValueError, OSError):
            read()


@settings(
    max_examples=settings().max_examples // 3,  # each makes an artifact twice
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_no_document_of_a_store_breaks_its_readers(
    kind: str, data: st.DataObject, served: Path, tmp_path: Path
) -> None:
    folder = tmp_path / uuid4().hex
    first, made, places = prepare(folder)
    store = BucketStore(folder / "copies" / "second", first.bucket)
    index = {"step": {"object": "0", "stamp": [1, 1]}, "part/more": {"object": "1", "stamp": [1, 1]}}
    if kind == "index":
        first.bucket.delete([places["manifest"]])
        for each in ("0", "1"):
            first.bucket.write(f"resume/documents/{made.path.name}/{each}", b"e")
    if kind == "origin":
        path = publish(store, PROVENANCE, write).path / ORIGIN
        path.write_bytes(data.draw(harmed(json.loads(path.read_bytes()))))
    else:
        document = index if kind == "index" else json.loads(first.bucket.read(places[kind]))
        put(first, places[kind], data.draw(harmed(document)))
    again = publish(store, PROVENANCE, write)  # found, or made again
    store.fetch([again.path])
    assert (again.path / "part" / "0.txt").read_text() == "a"
    read_all(store, store.uri_of(again.path))
    assert {path.name for path in folder.iterdir()} <= {"first", "latest", "copies"}
    assert {path.name for path in (folder / "copies").iterdir()} <= {"second", "latest"}
    assert {path.name for path in store.root.iterdir()} <= {"documents", "page.html"}
    assert not Path("/tmp/evil").exists()
