"""What cannot end well is refused before the first step, by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.pretraining.run import run
from bertline.model.training.checkpoint import read_checkpoint, write_checkpoint


def refusal(match: str, tmp_path: Path, *arguments: Any, **keywords: Any) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        run(*arguments, work=tmp_path / "work", **keywords)
    assert not (tmp_path / "work").exists()


def test_impossible_requests_end_before_the_first_step(
    stages: Path, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    records, vocab, out = toy_folder / "records_16", toy_folder / "vocab.txt", tmp_path / "out"
    long, first = toy_folder / "records_32", stages / "first"
    config = stage_config()
    second = stage_config(max_seq_length=32, stop_at_step=0)
    more = tmp_path / "more.txt"
    more.write_text(vocab.read_text() + "one\ntwo\n")
    refusal(
        "24 examples are fewer than one batch of 32",
        tmp_path,
        records,
        vocab,
        out,
        stage_config(train_batch_size=32),
    )
    refusal("max_seq_length is 32, this stage needs 16", tmp_path, long, vocab, out, config)
    refusal("vocab_size is 40, but the vocabulary has 42", tmp_path, records, more, out, config)
    refusal("neither a known size nor a file", tmp_path, records, vocab, out, stage_config(model="huge"))
    refusal("no vocabulary is given", tmp_path, records, None, out, config)
    refusal("no such vocabulary", tmp_path, records, tmp_path / "none.txt", out, config)
    refusal("no such folder of records", tmp_path, tmp_path / "none", vocab, out, config)
    refusal(
        "the checkpoint is at step 64 and this stage ends at step 10",
        *(tmp_path, long, None, out, stage_config(max_seq_length=32, stop_at_step=10)),
        checkpoint=first,
    )
    refusal(
        "hidden_size is 32 there and 128 here",
        *(tmp_path, long, None, out, dataclasses.replace(second, model="tiny")),
        checkpoint=first,
    )
    refusal(
        "num_train_steps is 96 there and 200 here; the stages of a model share one schedule",
        *(tmp_path, long, None, out, dataclasses.replace(second, num_train_steps=200)),
        checkpoint=first,
    )
    refusal("is not the vocabulary of", tmp_path, long, more, out, second, checkpoint=first)
    refusal(
        "do_lower_case is True there",
        tmp_path,
        long,
        None,
        out,
        dataclasses.replace(second, do_lower_case=False),
        checkpoint=first,
    )
    refusal("training_state.json is missing", tmp_path, long, None, out, second, checkpoint=tmp_path / "none")


def test_ids_beyond_the_vocabulary_are_refused(toy_folder: Path, stage_config, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("\n".join((toy_folder / "vocab.txt").read_text().split()[:20]) + "\n")
    shape = json.loads((toy_folder / "bert_config.json").read_text()) | {"vocab_size": 20}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    config = stage_config(model=str(tmp_path / "bert_config.json"))
    refusal("but the vocabulary has 20 entries", tmp_path, toy_folder / "records_16", fewer, tmp_path, config)


def test_sequences_longer_than_the_position_table_are_refused(toy_folder: Path, stage_config, tmp_path: Path) -> None:
    shape = json.loads((toy_folder / "bert_config.json").read_text()) | {"max_position_embeddings": 8}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    config = stage_config(model=str(tmp_path / "bert_config.json"))
    refusal(
        "the model has 8 positions", tmp_path, toy_folder / "records_16", toy_folder / "vocab.txt", tmp_path, config
    )


def test_a_checkpoint_whose_weights_have_another_shape_is_refused(
    stages: Path, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    first = read_checkpoint(stages / "first", with_slots=True)
    name = "bert/pooler/dense/kernel"
    (tmp_path / "cut").mkdir()
    other = dataclasses.replace(first, weights={**first.weights, name: np.zeros((3, 3), "f4")})
    write_checkpoint(tmp_path / "cut", other)
    config = stage_config(max_seq_length=32, stop_at_step=0)
    with pytest.raises(ValueError, match=r"dense/kernel has shape \[3, 3\]"):
        run(toy_folder / "records_32", None, tmp_path, config, work=tmp_path / "work", checkpoint=tmp_path / "cut")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("train_batch_size", 0),
        ("num_train_steps", 0),
        ("num_warmup_steps", -1),
        ("num_warmup_steps", 97),
        ("stop_at_step", 97),
        ("max_seq_length", 0),
        ("save_checkpoints_steps", 0),
        ("log_every_steps", 0),
        ("steps_per_call", 0),
        ("keep_checkpoints", 0),
        ("keep_checkpoints_every_steps", -1),
        ("precision", "float8"),
        ("learning_rate_decay", "cosine"),
        ("optimizer", "sgd"),
        ("dropout", 0.999),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(stage_config, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        stage_config(**{field: value})


@pytest.mark.parametrize(("micro_batches", "devices"), [(3, 1), (1, 3), (2, 8)])
def test_a_batch_that_micro_batches_and_devices_do_not_divide_is_refused(
    stage_config, micro_batches: int, devices: int
) -> None:
    with pytest.raises(
        ValueError, match=rf"train_batch_size is 8, not a multiple of .*, {micro_batches * devices}; give one"
    ):
        stage_config(gradient_accumulation_steps=micro_batches, devices=devices)
