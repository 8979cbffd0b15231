"""Files of this machine that a cluster reads are copied into the run's bucket, once for each content."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertline.model.config import bert_config
from bertline.pipelines.clusters.staging import stage_inputs
from fakes.storage_server import StorageServer

NOTHING = {
    **dict.fromkeys(("dump", "books", "text", "wikiextractor", "jsonl", "vocab", "initial"), ""),
    "tasks": [],
    "pretrain_128": {"model": "tiny"},
    "pretrain_512": {"model": "tiny"},
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "books/one.txt",
        "books/two.txt",
        "vocab.txt",
        "model/vocab.txt",
        "model/variables/0",
        "dev.tsv",
        "one, two.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def stage(out: str = "gs://b/team", **given: Any) -> dict[str, Any]:
    return stage_inputs(NOTHING | given, out)


def uploads(storage_server: StorageServer) -> int:
    return sum(each.method == "POST" for each in storage_server.requests)


def test_each_content_is_copied_once(storage_server: StorageServer, files: Path) -> None:
    given = {
        "books": str(files / "books"),
        "vocab": str(files / "vocab.txt"),
        "initial": str(files / "model"),
        "tasks": [{"kind": "sst2", "train": str(files / "dev.tsv"), "dev": str(files / "dev.tsv")}],
    }
    staged = stage(**given)
    served = files / "served"
    assert [Path(served, each.removeprefix("gs://")).read_text() for each in staged["books"].split(",")] == [
        "books/one.txt",
        "books/two.txt",
    ]
    model = served / staged["initial"].removeprefix("gs://")
    assert (model / "variables" / "0").read_text() == "model/variables/0"
    assert staged["tasks"][0]["train"] == staged["tasks"][0]["dev"]
    before = uploads(storage_server)
    assert stage(**given) == staged and uploads(storage_server) == before
    (files / "vocab.txt").write_text("other")
    assert stage(**given)["vocab"] != staged["vocab"]


def test_a_configuration_of_ones_own_goes_with_the_settings(storage_server: StorageServer, files: Path) -> None:
    shape = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    (files / "bert_config.json").write_text(json.dumps(shape, indent=4))
    stages = {step: {"model": str(files / "bert_config.json"), "seed": 3} for step in ("pretrain_128", "pretrain_512")}
    staged = stage(**stages)
    assert staged["pretrain_128"] == staged["pretrain_512"]
    assert bert_config(staged["pretrain_512"]["model"], 20) == bert_config(str(files / "bert_config.json"), 20)
    with pytest.raises(ValueError, match=r"the given bert_config\.json: vocab_size is 20, but the vocabulary has 21"):
        bert_config(staged["pretrain_512"]["model"], 21)


def test_a_dry_run_sends_nothing(storage_server: StorageServer, files: Path) -> None:
    given = NOTHING | {"vocab": str(files / "vocab.txt")}
    assert stage_inputs(given, "gs://b/team", send=False)["vocab"].startswith("gs://b/team/inputs/")
    assert stage_inputs(NOTHING | {"dump": "gs://c/a.xml"}, "gs://b/team", send=False)["dump"] == "gs://c/a.xml"
    assert not storage_server.requests


@pytest.mark.parametrize(
    ("out", "given", "said"),
    [
        ("gs://b", {"dump": "gs://b/none.xml"}, "gs://b/none.xml: nothing is called so"),
        ("gs://b", {"vocab": "none.txt"}, "none.txt"),
        ("gs://b", {"books": "none/"}, "none"),
        ("gs://b", {"pretrain_128": {"model": "dev.tsv"}}, "dev.tsv: not a JSON file"),
        ("gs://b", {"initial": "served/b"}, "initial: served/b is an empty folder"),
        ("gs://b", {"text": "one, two.txt"}, r"gs://b/inputs/[0-9a-f]+/one, two.txt: there are commas"),
        ("gs://b", {"text": "one*.txt"}, r"one, two.txt: there are commas"),
        ("/mounted", {"vocab": "vocab.txt"}, "vocab: vocab.txt is of this machine"),
    ],
)
def test_what_a_cluster_cannot_read_is_named(
    out: str, given: Any, said: str, storage_server: StorageServer, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises((ValueError, OSError), match=said):
        stage(out, **given)


def test_of_mounted_folders_paths_stay(storage_server: StorageServer) -> None:
    assert stage("/mounted", dump="/mounted/dump.xml")["dump"] == "/mounted/dump.xml"
    assert not storage_server.requests


def test_a_shelf_of_files_is_to_be_put_into_a_bucket(storage_server: StorageServer, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    for number in range(101):
        (tmp_path / "shelf" / f"{number}.txt").write_text("text")
    with pytest.raises(ValueError, match=r"books: .*shelf are 101 files; put them into a bucket"):
        stage(books=str(tmp_path / "shelf"))
