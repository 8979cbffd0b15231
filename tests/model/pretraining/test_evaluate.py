"""Held-out scores: every example once, whatever the batch, and the original's file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import pretraining_shapes, read_bert_config
from bertline.model.heads import pretraining_losses, pretraining_whole
from bertline.model.pretraining.evaluate import EvaluateConfig, run
from bertline.model.records.canonical import encode_examples
from bertline.model.records.reader import open_records
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(toy, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    weights = initial_weights(pretraining_shapes(toy), 0.3, seed=1)
    write_checkpoint(folder, Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 40}))
    return folder


def evaluate(checkpoint: Path, records: Path, out: Path, **settings: Any) -> dict[str, Any]:
    out.mkdir(parents=True)
    return run(checkpoint, records, out, EvaluateConfig(jit_compile=False, **settings))


def test_scores_are_means_over_all_predictions(checkpoint: Path, toy, toy_folder: Path, tmp_path: Path) -> None:
    scores = evaluate(checkpoint, toy_folder / "records_16", tmp_path / "out")
    records = open_records(toy_folder / "records_16")
    batch = records.batch(np.arange(len(records)))
    weights = initial_weights(pretraining_shapes(toy), 0.3, seed=1)
    losses = pretraining_losses(weights, toy, batch, pretraining_whole(batch))
    assert (scores["examples"], scores["predictions"]) == (24, int(batch["masked_lm_weights"].sum()))
    assert scores["masked_lm_loss"] == pytest.approx(float(losses["mlm_loss"]), rel=1e-5)
    assert scores["next_sentence_loss"] == pytest.approx(float(losses["nsp_loss"]), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["masked_lm_loss"]))
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores


def test_a_short_last_batch_counts_each_example_once(checkpoint: Path, toy_folder: Path, tmp_path: Path) -> None:
    whole = evaluate(checkpoint, toy_folder / "records_32", tmp_path / "whole", eval_batch_size=24)
    cut = evaluate(checkpoint, toy_folder / "records_32", tmp_path / "cut", eval_batch_size=7)
    assert cut == pytest.approx(whole, rel=1e-5)


def test_max_examples_takes_the_first(checkpoint: Path, toy_folder: Path, tmp_path: Path) -> None:
    scores = evaluate(checkpoint, toy_folder / "records_16", tmp_path / "out", max_examples=5, eval_batch_size=4)
    assert scores["examples"] == 5


def test_results_file_has_the_originals_form(checkpoint: Path, toy_folder: Path, tmp_path: Path) -> None:
    scores = evaluate(checkpoint, toy_folder / "records_16", tmp_path / "out")
    lines = (tmp_path / "out" / "eval_results.txt").read_text().splitlines()
    assert lines[0] == "global_step = 40"
    assert [line.split(" = ")[0] for line in lines] == [
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_loss",
    ]
    assert np.float32(lines[3].split(" = ")[1]) == np.float32(scores["masked_lm_loss"])


def test_unfit_inputs_are_refused(checkpoint: Path, toy_folder: Path, toy_batch, tmp_path: Path) -> None:
    long = tmp_path / "records_40"
    long.mkdir()
    batch = toy_batch(2, length=40)
    batch["next_sentence_labels"] = batch["next_sentence_labels"][:, None]
    (long / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
    with pytest.raises(ValueError, match="max_seq_length is 40, but the model has 32 positions"):
        evaluate(checkpoint, long, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"training_state\.json is missing"):
        evaluate(tmp_path / "none", toy_folder / "records_16", tmp_path / "b")
    for name, value in (("eval_batch_size", 0), ("max_examples", -1), ("precision", "int8")):
        with pytest.raises(ValueError, match=name):
            EvaluateConfig(**{name: value})


@pytest.mark.golden
def test_accuracies_and_losses_of_the_original(reference: Path, toy_folder: Path, tmp_path: Path) -> None:
    """The two losses of model_outputs.npz; test_run_pretraining_verb.py compares with pretraining_eval_results.txt."""
    stored, golden = np.load(reference / "model_weights.npz"), np.load(reference / "model_outputs.npz")
    weights = {name.replace("|", "/"): stored[name] for name in stored}
    config = read_bert_config(reference / "bert_config.json")
    folder, records = tmp_path / "checkpoint", tmp_path / "records"
    folder.mkdir()
    records.mkdir()
    write_checkpoint(folder, Checkpoint(config, weights, (reference / "vocab.txt").read_bytes(), True, {"step": 40}))
    names = {
        "input_ids": "ids",
        "input_mask": "mask",
        "segment_ids": "seg",
        "masked_lm_positions": "pos",
        "masked_lm_ids": "lab",
        "masked_lm_weights": "wt",
        "next_sentence_labels": "nsl",
    }
    features = {name: golden[key] for name, key in names.items()}
    (records / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(features))
    scores = evaluate(folder, records, tmp_path / "out")
    assert scores["masked_lm_loss"] == pytest.approx(float(golden["mlm_loss"]), abs=1e-5)
    assert scores["next_sentence_loss"] == pytest.approx(float(golden["nsp_loss"]), abs=2e-6)


def test_length_bins_are_scored_as_filled_up_rows(checkpoint: Path, toy_batch, tmp_path: Path) -> None:
    narrow, wide = toy_batch(7, 16, 3), toy_batch(5, 32, 3, seed=1)
    places = ("input_ids", "input_mask", "segment_ids")
    wider = {name: np.pad(values, [(0, 0), (0, 16)]) if name in places else values for name, values in narrow.items()}
    filled = {name: np.concatenate([values, wide[name]]) for name, values in wider.items()}
    for name, batch in {"bins/length_16": narrow, "bins/length_32": wide, "filled": filled}.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "part.tfrecord").write_bytes(
            encode_examples({**batch, "next_sentence_labels": batch["next_sentence_labels"][:, None]})
        )
    scores = [
        evaluate(checkpoint, tmp_path / name, tmp_path / f"out_{name}", eval_batch_size=4)
        for name in ("bins", "filled")
    ]
    assert scores[0]["examples"] == 12 and scores[0] == pytest.approx(scores[1], rel=1e-5)
