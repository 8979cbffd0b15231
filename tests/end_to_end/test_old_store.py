"""What version 2e4d16a left on disk is still read: its checkpoints, its records, a training it was in the middle of.

`tests/data/make_store.sh` made the store with that version, and computed the scores in it.
"""

import importlib
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
STORE = ROOT / "tests" / "data" / "store_2e4d16a"
TOLERANCE = 1e-4  # of scores; other processors sum in another order
STAGES = ["--train_batch_size=8", "--num_train_steps=60", "--num_warmup_steps=5", "--learning_rate=0.01"]
STAGES += ["--log_every_steps=10"]
INTERRUPTED = ["pretrain", "--records=records_32", "--vocab=vocab.txt", "--model=bert_config.json"]
INTERRUPTED += ["--max_seq_length=32", "--train_batch_size=8", "--num_train_steps=300", "--num_warmup_steps=5"]
INTERRUPTED += ["--log_every_steps=10", "--out=interrupted"]
IMPOSSIBLE_LOSS = 77.0

Bertline = Callable[..., int]


@pytest.fixture(scope="module")
def bertline() -> Bertline:
    """The command line's main function, as pyproject.toml names it."""
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bertline"]
    module, _, name = script.partition(":")
    main = getattr(importlib.import_module(module), name)
    return lambda *argv: main(argv)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store, as the current folder: the paths in its commands are relative."""
    monkeypatch.chdir(shutil.copytree(STORE, tmp_path / "store"))
    return tmp_path / "store"


def assert_scores_as_then(bertline: Bertline, store: Path, checkpoint: str) -> None:
    assert bertline("evaluate", f"--checkpoint={checkpoint}", "--records=heldout_32", "--out=now") == 0
    then = json.loads((store / "scores" / Path(checkpoint).name / "scores.json").read_text())
    assert json.loads((store / "now" / "scores.json").read_text()) == pytest.approx(then, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["checkpoint_32", "checkpoint_32/best"])
def test_old_checkpoints_have_the_scores_of_then(checkpoint: str, bertline: Bertline, store: Path) -> None:
    assert_scores_as_then(bertline, store, checkpoint)


@pytest.mark.slow
def test_an_old_checkpoint_is_exported_with_its_weights(bertline: Bertline, store: Path) -> None:
    assert bertline("export", "--checkpoint=checkpoint_32", "--out=exported") == 0
    (exported,) = (
        values
        for name, values in load_file(store / "exported" / "model.safetensors").items()
        if name.endswith("word_embeddings.weight")
    )
    there = load_file(store / "checkpoint_32" / "model.safetensors")["bert/embeddings/word_embeddings"]
    np.testing.assert_array_equal(exported, there)


@pytest.mark.slow
def test_a_second_stage_goes_on_from_an_old_checkpoint(bertline: Bertline, store: Path) -> None:
    stage = ["--records=records_64", "--checkpoint=checkpoint_32", "--max_seq_length=64", "--out=second"]
    assert bertline("pretrain", *stage, *STAGES) == 0
    assert json.loads((store / "second" / "training_state.json").read_text())["step"] == 60
    assert_scores_as_then(bertline, store, "second")


@pytest.mark.slow
def test_an_interrupted_old_training_goes_on_from_its_snapshot(bertline: Bertline, store: Path) -> None:
    """A loss that no training has is put into the snapshot's log: only a run that went on from there has it."""
    (snapshot,) = (store / "interrupted.work").glob("snapshot-*")
    log = snapshot / "training_log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[0]["loss"] = IMPOSSIBLE_LOSS
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert bertline(*INTERRUPTED) == 0
    finished = [json.loads(line) for line in (store / "interrupted" / "training_log.jsonl").read_text().splitlines()]
    assert finished[: len(rows)] == rows
    assert [row["step"] for row in finished] == list(range(10, 301, 10))
    assert not (store / "interrupted.work").exists()
    assert_scores_as_then(bertline, store, "interrupted")


@pytest.mark.slow
def test_an_old_store_is_drawn_as_a_lineage_page(bertline: Bertline, store: Path) -> None:
    assert bertline("lineage", "--store=.", "--out=lineage.html") == 0
    page = (store / "lineage.html").read_text(encoding="utf-8")
    assert all(kind in page for kind in ("documents", "sentences", "records_64", "checkpoint_32", "scores"))
