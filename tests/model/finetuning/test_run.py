"""Fine-tuning a classifier, and its scores."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import pretraining_shapes
from bertline.model.finetuning.run import FinetuneConfig, classification_scores, run
from bertline.model.training.checkpoint import (
    Checkpoint,
    evaluations,
    read_checkpoint,
    rows_of,
    training_rows,
    write_checkpoint,
)

LABELS = ["no", "yes"]


def examples_of(count: int, seed: int) -> dict[str, np.ndarray]:
    """The label is whether the sequence begins with a word of the vocabulary's second half."""
    ids = np.random.default_rng(seed).integers(5, 40, (count, 16)).astype(np.int32)
    ids[:, 0], first = 2, ids[:, 1]
    return {
        "input_ids": ids,
        "input_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
        "label_ids": (first >= 22).astype(np.int32),
    }


def config_of(**changes: Any) -> FinetuneConfig:
    settings = {"max_seq_length": 16, "train_batch_size": 16, "eval_batch_size": 7, "jit_compile": False}
    return FinetuneConfig(**{**settings, "learning_rate": 1e-3, "num_train_epochs": 40.0, **changes})


@pytest.fixture(scope="module")
def checkpoint(toy, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    toy = dataclasses.replace(toy, num_hidden_layers=1)
    weights = initial_weights(pretraining_shapes(toy), 0.1, seed=1)
    write_checkpoint(folder, Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 40}))
    return folder


@pytest.fixture(scope="module")
def tuned(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("tuned")
    work, events = out.with_suffix(".work"), out.with_suffix(".tensorboard")
    settings = config_of(eval_every_steps=100)
    return out, run(
        checkpoint, examples_of(128, 1), examples_of(30, 2), LABELS, out, settings, work=work, log_dir=events
    )


def test_it_learns_a_rule(tuned: tuple[Path, dict[str, Any]]) -> None:
    out, scores = tuned
    assert scores["steps"] == 320
    assert (scores["examples.train"], scores["examples.dev"]) == (128, 30)
    assert scores["accuracy"] > 0.85 > scores["majority_accuracy"]
    assert scores["f1"] > 0.8
    written = json.loads((out / "scores.json").read_text())
    assert written == {name: value for name, value in scores.items() if not name.startswith("best.")}


def test_it_is_scored_on_the_way_and_the_best_weights_are_kept(tuned: tuple[Path, dict[str, Any]]) -> None:
    out, scores = tuned
    rows = rows_of((out / "training_log.jsonl").read_text())
    assert [row["step"] for row in training_rows(rows)] == list(range(20, 321, 20))
    scored = {row["step"]: row["heldout_accuracy"] for row in evaluations(rows)}
    assert list(scored) == [100, 200, 300, 320]
    assert scored[320] == pytest.approx(scores["accuracy"], rel=1e-6)
    best = json.loads((out / "best.json").read_text())
    highest = max(scored.values())
    assert best["best"]["step"] == scores["best.step"] == next(step for step in scored if scored[step] == highest)
    assert best["weights"] == ("." if best["best"]["step"] == 320 else "best")
    if best["weights"] == "best":
        assert read_checkpoint(out / "best").state == {"step": best["best"]["step"], "labels": LABELS}
    events, speed = sorted(out.with_suffix(".tensorboard").iterdir())
    assert events.name.startswith("events.out.tfevents.")
    assert [row["step"] for row in map(json.loads, speed.read_text().splitlines())] == list(range(20, 321, 20))


def run_short(checkpoint: Path, out: Path, **changes: Any) -> Path:
    """Three epochs of 20 examples."""
    out.mkdir()
    train, dev, config = examples_of(20, 1), examples_of(5, 2), config_of(num_train_epochs=3.0, **changes)
    run(checkpoint, train, dev, LABELS, out, config, work=out.with_suffix(".work"))
    return out


@pytest.fixture(scope="module")
def short(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_short(checkpoint, tmp_path_factory.mktemp("short") / "out")


def test_without_an_interval_it_is_scored_where_each_epoch_ends(short: Path) -> None:
    rows = rows_of((short / "training_log.jsonl").read_text())
    assert [row["step"] for row in evaluations(rows)] == [2, 3]  # 20 examples are a batch of 16 and some


def test_the_model_folder_holds_encoder_and_head(tuned: tuple[Path, dict[str, Any]]) -> None:
    model = read_checkpoint(tuned[0])
    assert model.weights["output_weights"].shape == (2, 32)
    assert not any(name.startswith("cls/") for name in model.weights)
    assert model.state == {"step": 320, "labels": LABELS}


def test_predictions_table(tuned: tuple[Path, dict[str, Any]]) -> None:
    header, *rows = [line.split("\t") for line in (tuned[0] / "predictions.tsv").read_text().splitlines()]
    assert header == ["index", "label", "no", "yes"]
    assert [int(row[0]) for row in rows] == list(range(30))
    for _, label, no, yes in rows:
        assert float(no) + float(yes) == pytest.approx(1.0, abs=1e-5)
        assert label == ("yes" if float(yes) > float(no) else "no")
    right = np.mean([row[1] == LABELS[label] for row, label in zip(rows, examples_of(30, 2)["label_ids"], strict=True)])
    assert right == pytest.approx(tuned[1]["accuracy"])


def test_same_seed_same_bytes(checkpoint: Path, short: Path, tmp_path: Path) -> None:
    again, other = run_short(checkpoint, tmp_path / "again"), run_short(checkpoint, tmp_path / "other", seed=2)
    one, two, three = ((out / "model.safetensors").read_bytes() for out in (short, again, other))
    assert one == two != three


def test_a_few_examples_give_at_least_one_step(checkpoint: Path, tmp_path: Path) -> None:
    few = examples_of(3, 1)
    config = config_of(num_train_epochs=1.0)
    assert run(checkpoint, few, few, LABELS, tmp_path, config, work=tmp_path / "work")["steps"] == 1


def test_scores_of_known_answers() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    scores = classification_scores(probabilities, np.array([0, 1, 0, 1]), np.array([0, 0, 1]))
    assert scores["accuracy"] == 0.5
    assert scores["majority_accuracy"] == 0.5
    assert scores["f1"] == 0.5
    three = classification_scores(np.eye(3), np.array([0, 1, 2]), np.array([2]))
    assert (three["accuracy"], three["majority_accuracy"], "f1" in three) == (1.0, pytest.approx(1 / 3), False)


def test_unfit_inputs_are_refused(checkpoint: Path, toy, toy_folder: Path, tmp_path: Path) -> None:
    good = examples_of(4, 1)
    none = {name: array[:0] for name, array in good.items()}
    wrong = good | {"label_ids": np.array([0, 1, 2, 1], np.int32)}
    with pytest.raises(ValueError, match="dev: no examples"):
        run(checkpoint, good, none, LABELS, tmp_path, config_of(), work=tmp_path)
    with pytest.raises(ValueError, match="train: example 2 has label id 2, but there are 2 labels"):
        run(checkpoint, wrong, good, LABELS, tmp_path, config_of(), work=tmp_path)
    with pytest.raises(ValueError, match="train: examples have length 16, max_seq_length is 8"):
        run(checkpoint, good, good, LABELS, tmp_path, config_of(max_seq_length=8), work=tmp_path)
    with pytest.raises(ValueError, match="max_seq_length is 64, but the model has 32 positions"):
        run(checkpoint, good, good, LABELS, tmp_path, config_of(max_seq_length=64), work=tmp_path)
    headless = {"output_bias": np.zeros(2, np.float32)}
    broken = tmp_path / "broken"
    broken.mkdir()
    write_checkpoint(broken, Checkpoint(toy, headless, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 1}))
    with pytest.raises(ValueError, match="variable bert/embeddings/word_embeddings is missing"):
        run(broken, good, good, LABELS, tmp_path, config_of(), work=tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", -1.0), ("num_train_epochs", 0.0), ("warmup_proportion", 1.5), ("train_batch_size", 0)],
)
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        config_of(**{field: value})
