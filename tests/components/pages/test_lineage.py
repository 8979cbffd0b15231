import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bertline.components.pages.lineage import format_size, read_nodes, write_page
from bertline.components.store.artifacts import Provenance, Store, publish
from bertline.components.store.bucket import EMULATOR_VARIABLE, Bucket
from bertline.components.store.remote import BucketStore
from fakes.storage_server import serving


@dataclass(frozen=True)
class Config:
    size: int = 1


def made(store: Store, kind: str, counts: dict[str, int | float], **inputs: Path) -> Path:
    provenance = Provenance(kind, kind, {name: [path] for name, path in inputs.items()}, Config(), [])

    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "data.txt").write_text(kind)
        return counts

    return publish(store, provenance, write).path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    dump = tmp_path / "dump<1>.xml"
    dump.write_text("dump")
    place = Store(tmp_path / "store")
    documents = made(place, "documents", {"documents.kept": 12}, dump=dump)
    sentences = made(place, "sentences", {"sentences": 345}, documents=documents)
    made(place, "records_128", {"instances": 99}, sentences=sentences)
    made(place, "records_512", {"instances": 7}, sentences=sentences)
    return tmp_path / "store"


def test_the_graph_joins_artifacts_by_digest(store: Path) -> None:
    nodes = read_nodes(store)
    titles = {node.title: [nodes[digest].title for digest in node.inputs] for node in nodes.values()}
    assert titles == {
        "dump<1>.xml": [],
        "documents": ["dump<1>.xml"],
        "sentences": ["documents"],
        "records_128": ["sentences"],
        "records_512": ["sentences"],
    }


def test_what_is_made_of_a_part_is_joined_to_the_whole(tmp_path: Path) -> None:
    place = Store(tmp_path / "store")

    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "best").mkdir()
        (folder / "best" / "data.txt").write_text("best")
        return {}

    checkpoint = publish(place, Provenance("checkpoint_128", "pretrain", {}, Config(), []), write).path
    made(place, "scores", {}, checkpoint=checkpoint / "best")
    nodes = read_nodes(tmp_path / "store")
    titles = {node.title: [nodes[digest].title for digest in node.inputs] for node in nodes.values()}
    assert titles == {"checkpoint_128": [], "scores": ["checkpoint_128"]}


def test_a_file_that_an_artifact_consists_of_leads_to_it(tmp_path: Path) -> None:
    """As vocab.txt beside vocab.txt.artifact; a copy of it in what was made from it is no origin."""
    place = Store(tmp_path / "store")
    vocabulary = made(place, "vocabulary", {})
    copy = tmp_path / "vocab.txt"
    copy.write_text("vocabulary")
    records = made(place, "records_128", {}, vocabulary=copy)

    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "vocab.txt").write_text("vocabulary")
        (folder / "model").write_text("weights")
        return {}

    inputs = {"records": [records], "vocabulary": [copy]}
    publish(place, Provenance("checkpoint_128", "pretrain", inputs, Config(), []), write)
    nodes = read_nodes(tmp_path / "store")
    titles = {node.title: sorted(nodes[digest].title for digest in node.inputs) for node in nodes.values()}
    assert titles == {
        "vocabulary": [],
        "records_128": ["vocabulary"],
        "checkpoint_128": ["records_128", "vocabulary"],
    }
    assert vocabulary.is_dir()


def test_a_copied_file_is_where_its_copy_comes_from(tmp_path: Path) -> None:
    """As of `bertline vocab --released vocab.txt`, whose only file is what it was given."""
    place, given = Store(tmp_path / "store"), tmp_path / "vocab.txt"
    given.write_text("vocabulary")
    vocabulary = made(place, "vocabulary", {}, released=given)
    made(place, "records_128", {}, vocabulary=vocabulary)
    nodes = read_nodes(tmp_path / "store")
    titles = {node.title: [nodes[digest].title for digest in node.inputs] for node in nodes.values()}
    assert titles == {"vocab.txt": [], "vocabulary": ["vocab.txt"], "records_128": ["vocabulary"]}
    write_page(Store(tmp_path / "store"), tmp_path / "lineage.html")


def test_labels_name_what_has_the_kind_or_the_file_name_of_others(tmp_path: Path) -> None:
    place = Store(tmp_path / "store")
    for task in ("mrpc", "sst2"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "dev.tsv").write_text(task)
        inputs = {"dev": [tmp_path / task / "dev.tsv"]}

        def write(folder: Path, work: Path, task: str = task) -> dict[str, int | float]:
            (folder / "scores.json").write_text(task)
            (folder / "more").write_text(task)
            return {}

        publish(
            place, Provenance("scores", "tune", inputs, Config(), [], label=f"scores on {task}", subject=task), write
        )
    titles = {node.title for node in read_nodes(tmp_path / "store").values()}
    assert titles == {"scores on mrpc", "scores on sst2", "mrpc/dev.tsv", "sst2/dev.tsv"}


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(7, "7 B"), (999, "999 B"), (12_345, "12.3 kB"), (999_700, "1 MB"), (1.7e9, "1.7 GB"), (2.5e12, "2.500 TB")],
)
def test_sizes_have_three_digits(size_bytes: float, shown: str) -> None:
    assert format_size(size_bytes) == shown


def test_the_page_shows_every_artifact_and_use_and_is_well_formed(store: Path, tmp_path: Path) -> None:
    text = write_page(Store(store), tmp_path / "pages" / "lineage.html")
    assert (tmp_path / "pages" / "lineage.html").read_text(encoding="utf-8") == text
    assert text.count("<rect ") == 5
    assert text.count('class="use"') == 4
    assert "dump&lt;1&gt;.xml" in text
    assert "dump<1>" not in text
    assert "documents.kept 12" in text
    assert set(re.findall(r'href="#(\w+)"', text)) == set(re.findall(r'<tr id="(\w+)"', text))
    HTMLParser().feed(text)


def test_a_runs_page_asks_for_what_the_run_made_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served" / "b").mkdir(parents=True)
    with serving(tmp_path / "served") as server:
        monkeypatch.setenv(EMULATOR_VARIABLE, server.url)
        first, second = (BucketStore(tmp_path / name, Bucket("gs://b/store")) for name in ("first", "second"))
        for run, kind in (("one", "documents"), ("two", "sentences")):
            note = {"task": kind, "path": first.uri_of(made(first, kind, {}))}
            first.write_note(f"runs/{run}/{kind}.json", json.dumps(note))
        text = write_page(second, tmp_path / "page.html", run="two")
        assert ">sentences<" in text and ">documents<" not in text
        assert [path.parent.parent.name for path in second.root.rglob("MANIFEST.json")] == ["sentences"]
        with pytest.raises(ValueError, match='no run is called "tow"'):
            write_page(second, tmp_path / "page.html", run="tow")


def test_a_folder_without_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no artifacts here"):
        write_page(Store(tmp_path), tmp_path / "page.html")
