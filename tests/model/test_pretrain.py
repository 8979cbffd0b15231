"""Pretraining in stages: it learns, its bytes survive a kill, and impossible requests end before the first step."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.checkpoints.state import read_checkpoint, write_checkpoint
from bertline.model.example_encoding import encode_examples
from bertline.model.preemption import TRY_AGAIN
from bertline.model.pretrain import run
from bertline.model.pretrain_config import PretrainConfig

FILES = {
    "bert_config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer_config.json",
    "training_log.jsonl",
    "training_state.json",
    "vocab.txt",
}


def config_of(folder: Path, **changes: Any) -> PretrainConfig:
    settings = {
        "model": str(folder / "bert_config.json"),
        "max_seq_length": 16,
        "train_batch_size": 8,
        "learning_rate": 1e-2,
        "num_train_steps": 96,
        "num_warmup_steps": 4,
        "stop_at_step": 64,
        "log_every_steps": 3,
        "save_checkpoints_steps": 2,
    }
    return PretrainConfig(**{**settings, **changes})


def fresh(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def stages(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages without interruption: first/, second/ and their counts."""
    folder = tmp_path_factory.mktemp("stages")
    counts = [
        run(
            toy_folder / "records_16",
            toy_folder / "vocab.txt",
            fresh(folder / "first"),
            config_of(toy_folder),
            work=folder / "work_first",
            log_dir=folder / "events",
        ),
        run(
            toy_folder / "records_32",
            None,
            fresh(folder / "second"),
            config_of(toy_folder, max_seq_length=32, stop_at_step=0),
            work=folder / "work_second",
            checkpoint=folder / "first",
        ),
    ]
    (folder / "counts.json").write_text(json.dumps(counts))
    return folder


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


COMMAND = """
import json, sys
from pathlib import Path
from bertline.model.preemption import TRY_AGAIN, PreemptedError
from bertline.model.pretrain import run
from bertline.model.pretrain_config import PretrainConfig
arguments = json.loads(sys.argv[1])
paths = {name: Path(value) for name, value in arguments.items() if name != "config"}
paths.setdefault("vocab", None)
try:
    run(**paths, config=PretrainConfig(**arguments["config"]))
except PreemptedError:
    sys.exit(TRY_AGAIN)
"""


def start(arguments: dict[str, Any]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", COMMAND, json.dumps(arguments)], stderr=subprocess.DEVNULL)


def signalled_after_a_snapshot(arguments: dict[str, Any], number: signal.Signals) -> "subprocess.Popen[bytes]":
    process = start(arguments)
    deadline = time.monotonic() + 120
    while not list(Path(arguments["work"]).glob("snapshot-*")):
        assert process.poll() is None, "ended before its first snapshot"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, number)
    return process


def assert_same_files(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["first", "second"])
def test_killed_in_the_middle_and_run_again_gives_the_same_bytes(
    stage: str, stages: Path, toy_folder: Path, tmp_path: Path
) -> None:
    changes = {} if stage == "first" else {"max_seq_length": 32, "stop_at_step": 0}
    arguments = {
        "records": str(toy_folder / ("records_16" if stage == "first" else "records_32")),
        "out": str(fresh(tmp_path / "killed")),
        "work": str(tmp_path / "work"),
        "config": dataclasses.asdict(config_of(toy_folder, **changes)),
        **({"vocab": str(toy_folder / "vocab.txt")} if stage == "first" else {"checkpoint": str(stages / "first")}),
    }
    process = signalled_after_a_snapshot(arguments, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = start(arguments | {"out": str(fresh(tmp_path / "resumed"))})
    assert again.wait(timeout=120) == 0
    assert_same_files(tmp_path / "resumed", stages / stage)


@pytest.mark.slow
def test_sigterm_saves_the_step_and_says_run_me_again(stages: Path, toy_folder: Path, tmp_path: Path) -> None:
    arguments = {
        "records": str(toy_folder / "records_16"),
        "vocab": str(toy_folder / "vocab.txt"),
        "out": str(fresh(tmp_path / "preempted")),
        "work": str(tmp_path / "work"),
        "config": dataclasses.asdict(config_of(toy_folder, save_checkpoints_steps=1)),
    }
    process = signalled_after_a_snapshot(arguments, signal.SIGTERM)
    assert process.wait(timeout=120) == TRY_AGAIN
    assert start(arguments | {"out": str(fresh(tmp_path / "resumed"))}).wait(timeout=120) == 0
    assert_same_files(tmp_path / "resumed", stages / "first")


def test_a_work_folder_of_another_run_is_refused(stages: Path, toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"work_first holds an interrupted run whose .*seed is 12345 there and 1 here"):
        run(
            toy_folder / "records_16",
            toy_folder / "vocab.txt",
            tmp_path,
            config_of(toy_folder, seed=1),
            work=stages / "work_first",
        )


def test_events_are_readable_by_tensorboard(stages: Path) -> None:
    import tensorflow as tf

    (file,) = (stages / "events").iterdir()
    points: dict[str, list[tuple[int, float]]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            points.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    rows = [json.loads(line) for line in (stages / "first" / "training_log.jsonl").read_text().splitlines()]
    assert {name for name in points if not name.startswith("rate/")} == set(rows[0]) - {"step"}
    assert points["loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 0.05)])
def test_without_xla_and_in_bfloat16_it_trains_alike(
    stages: Path, toy_folder: Path, tmp_path: Path, precision: str, tolerance: float
) -> None:
    config = config_of(toy_folder, stop_at_step=3, precision=precision, jit_compile=False)
    out = fresh(tmp_path / "out")
    counts = run(toy_folder / "records_16", toy_folder / "vocab.txt", out, config, work=tmp_path / "work")
    first_row = json.loads((stages / "first" / "training_log.jsonl").read_text().splitlines()[0])
    assert counts["last.loss"] == pytest.approx(first_row["loss"], abs=tolerance)


def refusal(match: str, tmp_path: Path, *arguments: Any, **keywords: Any) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        run(*arguments, work=tmp_path / "work", **keywords)
    assert not (tmp_path / "work").exists()


def test_impossible_requests_end_before_the_first_step(stages: Path, toy_folder: Path, tmp_path: Path) -> None:
    records, vocab, out = toy_folder / "records_16", toy_folder / "vocab.txt", fresh(tmp_path / "out")
    long, first = toy_folder / "records_32", stages / "first"
    config = config_of(toy_folder)
    second = config_of(toy_folder, max_seq_length=32, stop_at_step=0)
    more = tmp_path / "more.txt"
    more.write_text(vocab.read_text() + "one\ntwo\n")
    refusal(
        "24 examples are fewer than one batch of 32",
        tmp_path,
        records,
        vocab,
        out,
        config_of(toy_folder, train_batch_size=32),
    )
    refusal("max_seq_length is 32, this stage needs 16", tmp_path, long, vocab, out, config)
    refusal("vocab_size is 40, but the vocabulary has 42", tmp_path, records, more, out, config)
    refusal("neither a known size nor a file", tmp_path, records, vocab, out, config_of(toy_folder, model="huge"))
    refusal("no vocabulary is given", tmp_path, records, None, out, config)
    refusal("no such vocabulary", tmp_path, records, tmp_path / "none.txt", out, config)
    refusal("no such folder of records", tmp_path, tmp_path / "none", vocab, out, config)
    refusal(
        "the checkpoint is at step 64 and this stage ends at step 10",
        *(tmp_path, long, None, out, config_of(toy_folder, max_seq_length=32, stop_at_step=10)),
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


def test_ids_beyond_the_vocabulary_are_refused(toy_folder: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("\n".join((toy_folder / "vocab.txt").read_text().split()[:20]) + "\n")
    shape = json.loads((toy_folder / "bert_config.json").read_text()) | {"vocab_size": 20}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    config = config_of(toy_folder, model=str(tmp_path / "bert_config.json"))
    refusal("but the vocabulary has 20 entries", tmp_path, toy_folder / "records_16", fewer, tmp_path, config)


def test_sequences_longer_than_the_position_table_are_refused(toy_folder: Path, tmp_path: Path) -> None:
    shape = json.loads((toy_folder / "bert_config.json").read_text()) | {"max_position_embeddings": 8}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    config = config_of(toy_folder, model=str(tmp_path / "bert_config.json"))
    refusal(
        "the model has 8 positions", tmp_path, toy_folder / "records_16", toy_folder / "vocab.txt", tmp_path, config
    )


def test_a_checkpoint_whose_weights_have_another_shape_is_refused(
    stages: Path, toy_folder: Path, tmp_path: Path
) -> None:
    first = read_checkpoint(stages / "first", with_slots=True)
    name = "bert/pooler/dense/kernel"
    write_checkpoint(
        fresh(tmp_path / "cut"), dataclasses.replace(first, weights={**first.weights, name: np.zeros((3, 3), "f4")})
    )
    config = config_of(toy_folder, max_seq_length=32, stop_at_step=0)
    with pytest.raises(ValueError, match=r"dense/kernel has shape \[3, 3\]"):
        run(toy_folder / "records_32", None, tmp_path, config, work=tmp_path / "work", checkpoint=tmp_path / "cut")


def test_a_loss_that_is_no_number_stops_with_step_rate_and_norm(toy_folder: Path, tmp_path: Path) -> None:
    config = config_of(toy_folder, learning_rate=1e30, num_warmup_steps=0, jit_compile=False)
    with pytest.raises(
        ValueError, match=r"step \d+: loss is .*, gradient norm .*, learning rate \d.*; lower learning_rate"
    ):
        run(toy_folder / "records_16", toy_folder / "vocab.txt", tmp_path, config, work=tmp_path / "work")


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
        ("precision", "float8"),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(toy_folder: Path, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        config_of(toy_folder, **{field: value})


def test_length_bins_are_trained_and_resumed_and_belong_to_the_run(toy_folder: Path, toy_batch, tmp_path: Path) -> None:
    def write_bin(count: int, length: int, predictions: int) -> Path:
        batch = toy_batch(count, length, predictions, seed=length)
        batch["next_sentence_labels"] = batch["next_sentence_labels"][:, None]
        folder = fresh(tmp_path / "records" / f"length_{length}")
        (folder / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
        return folder

    narrow, _ = write_bin(20, 16, 2), write_bin(13, 32, 5)
    config = config_of(toy_folder, max_seq_length=32, num_train_steps=12, stop_at_step=0, save_checkpoints_steps=5)
    for name in ("whole", "resumed"):  # the second goes on from the snapshot of step 10
        out = fresh(tmp_path / name)
        counts = run(tmp_path / "records", toy_folder / "vocab.txt", out, config, work=tmp_path / "work")
        assert (counts["examples.distinct"], counts["examples.seen"]) == (33, 96)
    assert_same_files(tmp_path / "whole", tmp_path / "resumed")
    narrow.rename(tmp_path / "elsewhere")
    write_bin(20, 24, 2)
    with pytest.raises(ValueError, match=r"interrupted run whose length_bins is .*'16': 20.* there and .*'24': 20"):
        run(tmp_path / "records", toy_folder / "vocab.txt", fresh(tmp_path / "x"), config, work=tmp_path / "work")
