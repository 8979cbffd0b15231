"""A released model goes on with a schedule of its own, and nothing of it is replaced unasked."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, encoder_shapes, pretraining_shapes
from bertline.model.formats.detect import read_model
from bertline.model.formats.loaded_model import LoadedModel
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.run import run
from bertline.model.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

SETTINGS: dict[str, Any] = {
    "max_seq_length": 16,
    "train_batch_size": 8,
    "learning_rate": 1e-3,
    "num_train_steps": 4,
    "num_warmup_steps": 1,
    "jit_compile": False,
}


@pytest.fixture
def released(toy: BertConfig, toy_folder: Path, tmp_path: Path) -> LoadedModel:
    """A pretrained model with both heads."""
    toy = dataclasses.replace(toy, num_hidden_layers=1)
    weights = initial_weights(pretraining_shapes(toy), 0.1, seed=3)
    return opened(
        tmp_path / "released", Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 9})
    )


def opened(folder: Path, checkpoint: Checkpoint) -> LoadedModel:
    folder.mkdir()
    write_checkpoint(folder, checkpoint)
    return read_model(folder)


def without_heads(released: LoadedModel, folder: Path) -> LoadedModel:
    encoder = encoder_shapes(released.checkpoint.bert_config)
    weights = {name: released.checkpoint.weights[name] for name in encoder}
    return opened(folder, dataclasses.replace(released.checkpoint, weights=weights))


def trained(toy_folder: Path, out: Path, initial: LoadedModel, vocab: Path | None = None, **changes: Any) -> Checkpoint:
    out.mkdir()
    config = PretrainConfig(**{**SETTINGS, **changes})
    run(toy_folder / "records_16", vocab, out, config, work=out.with_suffix(".work"), initial=lambda: initial)
    return read_checkpoint(out, with_slots=True)


def test_it_starts_at_the_released_weights_and_at_step_zero_and_dropout_may_be_changed(
    released: LoadedModel, toy_folder: Path, tmp_path: Path
) -> None:
    still = trained(toy_folder, tmp_path / "still", released, learning_rate=1e-12)
    assert still.state["step"] == 4
    for name, array in released.checkpoint.weights.items():
        np.testing.assert_allclose(still.weights[name], array, atol=1e-6)
    moved = trained(toy_folder, tmp_path / "moved", released, dropout=0.0)
    assert moved.bert_config.hidden_dropout_prob == 0.0
    assert all(np.any(moved.weights[name] != array) for name, array in released.checkpoint.weights.items())
    rows = [json.loads(line) for line in (tmp_path / "moved" / "training_log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4


def test_the_shape_may_not_be_changed(released: LoadedModel, toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hidden_size is 32 there and 128 here"):
        trained(toy_folder, tmp_path / "other", released, model="tiny")


def test_heads_that_are_missing_must_be_asked_for(released: LoadedModel, toy_folder: Path, tmp_path: Path) -> None:
    bare = without_heads(released, tmp_path / "bare")
    with pytest.raises(ValueError, match=r"no masked-LM head, no next-sentence head; .*--initialize=masked_lm,next_"):
        trained(toy_folder, tmp_path / "refused", bare)
    made = trained(toy_folder, tmp_path / "made", bare, initialize="masked_lm,next_sentence", learning_rate=1e-12)
    name = "bert/encoder/layer_0/output/dense/kernel"
    np.testing.assert_allclose(made.weights[name], released.checkpoint.weights[name], atol=1e-6)
    assert made.weights["cls/predictions/transform/dense/kernel"].std() > 0.01


def test_heads_that_are_there_are_never_made_afresh(released: LoadedModel, toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a masked-LM head, it need not be initialized"):
        trained(toy_folder, tmp_path / "out", released, initialize="masked_lm")
    with pytest.raises(ValueError, match='initialize names "decoder"; known: pooler, masked_lm, next_sentence'):
        PretrainConfig(initialize="decoder")


def test_records_of_another_vocabulary_or_case_are_refused(
    released: LoadedModel, toy_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text((toy_folder / "vocab.txt").read_text().replace("word3\n", "word03\n"))
    with pytest.raises(ValueError, match=r"other.txt is not the vocabulary of .*--new_vocab"):
        trained(toy_folder, tmp_path / "vocab", released, vocab=other)
    with pytest.raises(ValueError, match="do_lower_case is True there"):
        trained(toy_folder, tmp_path / "case", released, do_lower_case=False)


def test_a_stage_before_and_a_released_model_exclude_each_other(
    released: LoadedModel, toy_folder: Path, tmp_path: Path
) -> None:
    records, out, work = toy_folder / "records_16", tmp_path / "out", tmp_path / "work"
    with pytest.raises(ValueError, match=r"\(checkpoint\) and a released model \(initial\) are given"):
        run(
            records,
            None,
            out,
            PretrainConfig(**SETTINGS),
            work=work,
            checkpoint=released.path,
            initial=lambda: released,
        )
    with pytest.raises(ValueError, match="its schedule is unknown; give it as --initial"):
        run(records, None, out, PretrainConfig(**SETTINGS), work=work, checkpoint=released.path)
    with pytest.raises(ValueError, match="initialize is for a released model"):
        run(records, None, out, PretrainConfig(**SETTINGS, initialize="pooler"), work=work, checkpoint=released.path)
    with pytest.raises(ValueError, match="attention_initializer is for fresh weights"):
        fresh = PretrainConfig(**SETTINGS, attention_initializer="neighbours")
        run(records, None, out, fresh, work=work, initial=lambda: released)
