import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bertline.components.pages.lineage import read_nodes, write_page
from bertline.components.store.artifacts import Provenance, Store, publish


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


def test_the_page_shows_every_artifact_and_use_and_is_well_formed(store: Path, tmp_path: Path) -> None:
    text = write_page(store, tmp_path / "pages" / "lineage.html")
    assert (tmp_path / "pages" / "lineage.html").read_text(encoding="utf-8") == text
    assert text.count("<rect ") == 5
    assert text.count('class="use"') == 4
    assert "dump&lt;1&gt;.xml" in text
    assert "dump<1>" not in text
    assert "documents.kept 12" in text
    assert set(re.findall(r'href="#(\w+)"', text)) == set(re.findall(r'<tr id="(\w+)"', text))
    HTMLParser().feed(text)


def test_a_folder_without_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no artifacts here"):
        write_page(tmp_path, tmp_path / "page.html")
