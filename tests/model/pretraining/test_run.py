"""Pretraining in stages: it learns, on one schedule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.run import run
from bertline.model.training.checkpoint import read_checkpoint

FILES = {
    "bert_config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer_config.json",
    "training_log.jsonl",
    "training_state.json",
    "vocab.txt",
}


def test_a_stage_leaves_a_checkpoint_and_learns(stages: Path) -> None:
    assert {path.name for path in (stages / "first").iterdir()} == FILES
    counts = json.loads((stages / "counts.json").read_text())[0]
    assert (counts["step"], counts["steps"], counts["examples.seen"], counts["examples.distinct"]) == (64, 64, 512, 24)
    rows = [json.loads(line) for line in (stages / "first" / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(3, 64, 3), 64]
    assert set(rows[0]) == {"step", "loss", "mlm_loss", "nsp_loss", "learning_rate", "grad_norm"}
    assert rows[-1]["mlm_loss"] < rows[0]["mlm_loss"] - 0.2


def test_the_next_stage_goes_on_where_the_first_ended(stages: Path) -> None:
    second = read_checkpoint(stages / "second", with_slots=True)
    assert second.state["step"] == 96
    assert json.loads((stages / "counts.json").read_text())[1]["steps"] == 32
    rows = [json.loads(line) for line in (stages / "second" / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(3, 64, 3), 64, *range(67, 96, 3), 96]
    # The schedule goes on: 1e-2 * (1 - 67/96), and 0 at its end.
    assert rows[22]["learning_rate"] == pytest.approx(1e-2 * (1 - 67 / 96), rel=1e-4)
    assert rows[-1]["learning_rate"] == pytest.approx(0.0, abs=1e-8)
    assert second.slots is not None
    assert np.abs(second.slots["bert/pooler/dense/kernel/adam_v"]).max() > 0


def test_events_are_readable_by_tensorboard(stages: Path) -> None:
    import tensorflow as tf

    (file,) = (stages / "events").glob("events.out.tfevents.*")
    points: dict[str, list[tuple[int, float]]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            points.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    rows = [json.loads(line) for line in (stages / "first" / "training_log.jsonl").read_text().splitlines()]
    assert {name for name in points if not name.startswith("rate/")} == set(rows[0]) - {"step"}
    assert points["loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]


@pytest.mark.parametrize(
    ("changes", "tolerance"), [({"jit_compile": True}, 1e-4), ({"precision": "mixed_bfloat16"}, 0.05)]
)
def test_with_xla_and_in_bfloat16_it_trains_alike(
    stages: Path, toy_folder: Path, stage_config, tmp_path: Path, changes: dict[str, Any], tolerance: float
) -> None:
    config = stage_config(stop_at_step=3, **changes)
    (out := tmp_path / "out").mkdir()
    counts = run(toy_folder / "records_16", toy_folder / "vocab.txt", out, config, work=tmp_path / "work")
    first_row = json.loads((stages / "first" / "training_log.jsonl").read_text().splitlines()[0])
    assert counts["last.loss"] == pytest.approx(first_row["loss"], abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["original", "linear"])
def test_the_logged_learning_rate_is_the_formula_s_at_every_step_of_both_stages(
    decay: str, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    settings = {"learning_rate_decay": decay, "num_train_steps": 16, "num_warmup_steps": 5, "log_every_steps": 1}
    first = stage_config(**settings, stop_at_step=10)
    second = stage_config(**settings, stop_at_step=0, max_seq_length=32)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    run(toy_folder / "records_16", toy_folder / "vocab.txt", tmp_path / "one", first, work=tmp_path / "work_one")
    places = {"work": tmp_path / "work_two", "checkpoint": tmp_path / "one"}
    run(toy_folder / "records_32", None, tmp_path / "two", second, **places)
    rows = [json.loads(line) for line in (tmp_path / "two" / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 17))
    rising = [1e-2 * step / 5 for step in range(1, 5)]
    after = {"original": [1e-2 * (1 - step / 16) for step in range(5, 17)]}
    after["linear"] = [1e-2 * (16 - step) / (16 - 5) for step in range(5, 17)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([*rising, *after[decay]], rel=1e-6, abs=1e-12)


def test_a_stage_takes_its_model_s_initial_range_and_dropout_unless_it_names_its_own() -> None:
    shape = PretrainConfig(model="tiny").model_shape(100)
    assert (shape.initializer_range, shape.hidden_dropout_prob, shape.attention_probs_dropout_prob) == (0.02, 0.1, 0.1)
    shape = PretrainConfig(model="tiny", initializer_range=0.09, dropout=0.0).model_shape(100)
    assert (shape.initializer_range, shape.hidden_dropout_prob, shape.attention_probs_dropout_prob) == (0.09, 0.0, 0.0)


@pytest.mark.parametrize(("name", "value"), [("dropout", 1.0), ("dropout", -0.5), ("initializer_range", -0.1)])
def test_impossible_ones_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        PretrainConfig(**{name: value})
