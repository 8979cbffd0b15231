"""Held-out scores during pretraining: when, of which examples, kept through a kill, and the best weights."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.config import BertConfig
from bertline.model.pretraining import evaluate
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.run import run
from bertline.model.records.canonical import encode_examples
from bertline.model.training.best import BestWeights, Measure
from bertline.model.training.checkpoint import Checkpoint, evaluations, read_checkpoint, rows_of, training_rows
from bertline.preemption import INTERRUPTED, TRY_AGAIN

SETTINGS: dict[str, Any] = {
    "max_seq_length": 16,
    "train_batch_size": 8,
    "learning_rate": 1e-2,
    "num_train_steps": 40,
    "num_warmup_steps": 4,
    "log_every_steps": 7,
    "save_checkpoints_steps": 4,
    "eval_every_steps": 5,
    "eval_batch_size": 4,
    "jit_compile": False,
}
SECONDS = 600  # that anything waited for may take, on a busy machine
NAMES = {"masked_lm_loss", "masked_lm_accuracy", "perplexity", "next_sentence_loss", "next_sentence_accuracy"}


def fresh(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def write_records(folder: Path, batch: dict[str, np.ndarray]) -> Path:
    batch["next_sentence_labels"] = batch["next_sentence_labels"][:, None]
    (fresh(folder) / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
    return folder


@pytest.fixture(scope="module")
def heldout(toy_batch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 random examples: what is learned from others by heart makes their loss rise again."""
    return write_records(tmp_path_factory.mktemp("heldout") / "records", toy_batch(10, 16, 3, seed=99))


Trained = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(toy_folder: Path, heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains with SETTINGS, changed; returns the folder of the checkpoint."""

    def train(held_out: Path | None = heldout, events: Path | None = None, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("trained")
        config = PretrainConfig(model=str(toy_folder / "bert_config.json"), **{**SETTINGS, **changes})
        records, vocab, out = toy_folder / "records_16", toy_folder / "vocab.txt", fresh(folder / "out")
        counts = run(records, vocab, out, config, work=folder / "work", heldout=held_out, log_dir=events)
        (folder / "counts.json").write_text(json.dumps(counts))
        return out

    return train


@pytest.fixture(scope="module")
def whole(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without interruption; its event file lies in `<out>/../events`."""
    out = trained(events=(events := tmp_path_factory.mktemp("events")))
    events.rename(out.parent / "events")
    return out


def rows(out: Path) -> list[dict[str, float]]:
    return rows_of((out / "training_log.jsonl").read_text())


def scores_of(checkpoint: Path, records: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return evaluate.run(checkpoint, records, fresh(out), evaluate.EvaluateConfig(**settings))


def test_every_n_steps_and_at_the_end_a_row_of_its_own(whole: Path) -> None:
    scored = evaluations(rows(whole))
    assert [row["step"] for row in scored] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert all(set(row) == {"step", *(f"heldout_{name}" for name in NAMES)} for row in scored)
    steps = [(row["step"], "loss" in row) for row in rows(whole)]
    assert steps[-4:] == [(35, True), (35, False), (40, True), (40, False)]


def test_training_is_the_same_bytes_with_and_without_it(whole: Path, trained: Trained) -> None:
    without = trained(held_out=None, eval_every_steps=0)
    assert training_rows(rows(whole)) == rows(without)
    assert (whole / "model.safetensors").read_bytes() == (without / "model.safetensors").read_bytes()
    assert {path.name for path in whole.iterdir()} - {path.name for path in without.iterdir()} == {"best", "best.json"}
    counts = [json.loads((out.parent / "counts.json").read_text()) for out in (whole, without)]
    assert counts[0]["last.mlm_loss"] == counts[1]["last.mlm_loss"] == rows(without)[-1]["mlm_loss"]


def test_scores_are_those_of_the_step_s_weights_by_evaluate(whole: Path, heldout: Path, tmp_path: Path) -> None:
    """Whatever the batch: each example counts once."""
    best = json.loads((whole / "best.json").read_text())
    for folder, row in ((whole, best["last"]), (whole / "best", best["best"])):
        scores = scores_of(folder, heldout, tmp_path / str(row["step"]), eval_batch_size=10, jit_compile=False)
        assert scores["global_step"] == row["step"]
        assert scores["examples"] == 10
        assert {name: scores[name] for name in NAMES} == pytest.approx({name: row[name] for name in NAMES}, rel=1e-5)


def test_the_best_weights_are_kept_when_they_are_not_the_last(whole: Path) -> None:
    scored = evaluations(rows(whole))
    lowest = min(scored, key=lambda row: row["heldout_masked_lm_loss"])
    best = json.loads((whole / "best.json").read_text())
    assert lowest["step"] < 40, "random examples learned by heart"
    assert best["best"] == {name.removeprefix("heldout_"): value for name, value in lowest.items()}
    assert (best["last"]["step"], best["weights"]) == (40, "best")
    kept = read_checkpoint(whole / "best")
    assert kept.state == {"step": lowest["step"]}
    assert kept.vocabulary == (whole / "vocab.txt").read_bytes()
    assert not (whole / "best" / "optimizer.safetensors").exists()
    counts = json.loads((whole.parent / "counts.json").read_text())
    assert counts["best.step"] == lowest["step"]
    assert counts["best.heldout_masked_lm_loss"] == lowest["heldout_masked_lm_loss"]
    assert counts["last.heldout_perplexity"] == scored[-1]["heldout_perplexity"]


@pytest.fixture(scope="module")
def short(trained: Trained) -> Path:
    """Five steps, scored once, on three examples."""
    return trained(eval_every_steps=0, max_eval_examples=3, num_train_steps=5)


def test_the_last_weights_are_not_kept_twice(short: Path) -> None:
    best = json.loads((short / "best.json").read_text())
    assert (best["best"]["step"], best["last"], best["weights"]) == (5, best["best"], ".")
    assert not (short / "best").exists()


def test_the_first_so_many_examples(short: Path, heldout: Path, tmp_path: Path) -> None:
    scores = scores_of(short, heldout, tmp_path / "scores", max_examples=3, jit_compile=False)
    assert scores["examples"] == 3
    assert rows(short)[-1]["heldout_masked_lm_loss"] == pytest.approx(scores["masked_lm_loss"], rel=1e-5)


def test_tensorboard_shows_scores_and_rates(whole: Path) -> None:
    import tensorflow as tf

    points: dict[str, dict[int, float]] = {}
    (file,) = (whole.parent / "events").glob("events.out.tfevents.*")
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            points.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    for name in NAMES:
        logged = {row["step"]: row[f"heldout_{name}"] for row in evaluations(rows(whole))}
        assert points[f"heldout/{name}"] == pytest.approx(logged, rel=1e-6)
    rate = points["rate/sequences_per_second"]
    assert list(rate) == [7, 14, 21, 28, 35, 40]
    assert points["rate/tokens_per_second"][40] == pytest.approx(16 * rate[40], rel=1e-6)
    assert 0 < points["rate/share_of_peak"][40] <= 1
    speeds = [json.loads(line) for line in (whole.parent / "events" / "training_speed.jsonl").read_text().splitlines()]
    assert [row["step"] for row in speeds] == [7, 14, 21, 28, 35, 40]
    assert [row["tokens_per_second"] for row in speeds] == pytest.approx(
        list(points["rate/tokens_per_second"].values()), rel=1e-3
    )


COMMAND = """
import json, sys
from pathlib import Path
from bertline.preemption import PreemptedError
from bertline.model.pretraining.run import run
from bertline.model.pretraining.config import PretrainConfig
arguments = json.loads(sys.argv[1])
paths = {name: Path(value) for name, value in arguments.items() if name != "config"}
try:
    run(**paths, config=PretrainConfig(**arguments["config"]))
except PreemptedError as error:
    sys.exit(error.exit_code)
"""


def command_of(toy_folder: Path, heldout: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "records": str(toy_folder / "records_16"),
        "vocab": str(toy_folder / "vocab.txt"),
        "heldout": str(heldout),
        "out": str(fresh(tmp_path / "out")),
        "work": str(tmp_path / "work"),
        "config": SETTINGS | {"model": str(toy_folder / "bert_config.json")} | changes,
    }


def start(arguments: dict[str, Any], **environment: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", COMMAND, json.dumps(arguments)]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | environment, preexec_fn=listen)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("once", ["best-*", "snapshot-*2?"])
def test_killed_and_run_again_gives_the_same_log_and_best_weights(
    once: str, whole: Path, toy_folder: Path, heldout: Path, tmp_path: Path, signal_once
) -> None:
    arguments = command_of(toy_folder, heldout, tmp_path)
    signal_once(process := start(arguments), signal.SIGKILL, lambda: list((tmp_path / "work").glob(once)))
    assert process.returncode == -signal.SIGKILL
    assert start(arguments).wait(timeout=SECONDS) == 0
    assert files_of(tmp_path / "out") == files_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TRY_AGAIN), (signal.SIGINT, INTERRUPTED)])
def test_a_signal_does_not_wait_for_an_evaluation_and_none_is_lost(
    number: signal.Signals, code: int, trained: Trained, toy_folder: Path, heldout: Path, tmp_path: Path, signal_once
) -> None:
    """Every step is to be scored, so the step that the signal ends is one."""
    uninterrupted = trained(eval_every_steps=1)
    arguments = command_of(toy_folder, heldout, tmp_path, eval_every_steps=1)
    signal_once(process := start(arguments), number, lambda: list((tmp_path / "work").glob("best-*")))
    assert process.returncode == code
    assert start(arguments).wait(timeout=SECONDS) == 0
    assert files_of(tmp_path / "out") == files_of(uninterrupted)


@pytest.mark.slow
def test_sigterm_does_not_wait_for_the_last_evaluation_either(
    trained: Trained, toy_folder: Path, heldout: Path, tmp_path: Path
) -> None:
    """It comes with the last update; no snapshot but the one then written is there."""
    uninterrupted = trained(eval_every_steps=0, save_checkpoints_steps=100)
    arguments = command_of(toy_folder, heldout, tmp_path, eval_every_steps=0, save_checkpoints_steps=100)
    at_last_update = """
import os, signal
from bertline.model.training.checkpoint import TrainingLog
add = TrainingLog.add
def signalled(self, step, metrics, *, last):
    if last:
        os.kill(os.getpid(), signal.SIGTERM)
    return add(self, step, metrics, last=last)
TrainingLog.add = signalled
"""
    command = [sys.executable, "-c", at_last_update + COMMAND, json.dumps(arguments)]
    assert subprocess.run(command, check=False, timeout=SECONDS).returncode == TRY_AGAIN
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["snapshot-000000040"]
    assert start(arguments).wait(timeout=SECONDS) == 0
    assert files_of(tmp_path / "out") == files_of(uninterrupted)


@pytest.mark.slow
def test_jax_on_two_devices_gives_the_same_scores(
    trained: Trained, toy_folder: Path, heldout: Path, tmp_path: Path
) -> None:
    """The batches of 5 are one larger there."""
    settings: dict[str, Any] = {"num_train_steps": 6, "eval_every_steps": 3, "eval_batch_size": 5}
    tensorflow = evaluations(rows(trained(**settings)))
    arguments = command_of(toy_folder, heldout, tmp_path, **settings, backend="jax", devices=2)
    flags = "--xla_force_host_platform_device_count=2"
    assert start(arguments, XLA_FLAGS=flags, KERAS_BACKEND="jax").wait(timeout=SECONDS) == 0
    on_jax = evaluations(rows(tmp_path / "out"))
    assert [row["step"] for row in on_jax] == [3, 6]
    for one, other in zip(on_jax, tensorflow, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def refusal(match: str, toy_folder: Path, tmp_path: Path, heldout: Path | None, **changes: Any) -> None:
    config = PretrainConfig(model=str(toy_folder / "bert_config.json"), **{**SETTINGS, **changes})
    records, vocab = toy_folder / "records_16", toy_folder / "vocab.txt"
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        run(records, vocab, tmp_path / "out", config, work=tmp_path / "work", heldout=heldout)
    assert not (tmp_path / "work").exists()


def test_unfit_held_out_records_are_refused_before_the_first_step(
    toy_folder: Path, toy_batch, heldout: Path, tmp_path: Path
) -> None:
    (fresh(tmp_path / "empty") / "part-00000-of-00001.tfrecord").write_bytes(b"")
    refusal("empty/part-00000-of-00001.tfrecord: holds no records", toy_folder, tmp_path, tmp_path / "empty")
    refusal("no such folder of records", toy_folder, tmp_path, tmp_path / "none")
    refusal("max_seq_length is 32, this stage needs 16", toy_folder, tmp_path, toy_folder / "records_32")
    beyond = toy_batch(4)
    beyond["input_ids"][2, 3] = 40
    foreign = write_records(tmp_path / "foreign", beyond)
    refusal("foreign/part-.*holds id 40, but the vocabulary has 40 entries", toy_folder, tmp_path, foreign)
    refusal("eval_every_steps is 5, but no held-out records are given", toy_folder, tmp_path, None)
    for name, value in (("eval_every_steps", -1), ("eval_batch_size", 0), ("max_eval_examples", -1)):
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be at least"):
            PretrainConfig(**{name: value})


LOSSES = {10: 5.0, 20: 4.0, 30: 4.5, 40: 3.0, 50: 3.0}
LOG: list[dict[str, float]] = [{"step": step, "heldout_masked_lm_loss": loss} for step, loss in LOSSES.items()]


def a_best(toy: BertConfig, step: int) -> Checkpoint:
    return Checkpoint(toy, {"bert/pooler/dense/bias": np.full(3, step, np.float32)}, b"[PAD]\n", True, {"step": step})


def best_in(work: Path, first_step: int = 0) -> BestWeights:
    return BestWeights(work, Measure("masked_lm_loss"), first_step)


def test_the_best_is_the_first_of_the_lowest_of_this_stage() -> None:
    steps = [best["step"] for until in (10, 25, 35, 60) if (best := best_in(Path()).find(LOG, until))]
    assert steps == [10, 20, 20, 40]
    assert best_in(Path(), first_step=40).find(LOG) == {"step": 50, "heldout_masked_lm_loss": 3.0}
    assert best_in(Path(), first_step=50).find([*LOG, {"step": 60, "loss": 1.0}]) is None


def test_where_more_is_better_the_best_is_the_first_of_the_highest() -> None:
    rows = [{"step": step, "heldout_accuracy": value} for step, value in {10: 0.5, 20: 0.75, 30: 0.75}.items()]
    assert BestWeights(Path(), Measure("accuracy", highest=True), 0).find(rows) == rows[1]


def test_what_a_snapshot_may_need_is_kept(toy: BertConfig, tmp_path: Path) -> None:
    for step in (10, 20, 40):
        best_in(tmp_path).save(a_best(toy, step))
    best_in(tmp_path).save(a_best(toy, 30))  # of a run that was killed and went another way
    for step in (15, 35):
        fresh(tmp_path / f"snapshot-{step:09}")
    best_in(tmp_path).delete_others(LOG, coming=(50,))
    assert sorted(path.name for path in tmp_path.glob("best-*")) == [
        "best-000000010",
        "best-000000020",
        "best-000000040",
    ]
    (tmp_path / "snapshot-000000015").rmdir()
    best_in(tmp_path).delete_others(LOG, coming=(50,))
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-000000020", "best-000000040"]


def test_damaged_best_weights_do_not_cost_the_checkpoint(
    toy: BertConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best_in(tmp_path / "work").save(a_best(toy, 40))
    path = tmp_path / "work" / "best-000000040" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    counts = best_in(tmp_path / "work").write(fresh(tmp_path / "out"), LOG)
    assert json.loads((tmp_path / "out" / "best.json").read_text())["weights"] is None
    assert counts["best.step"] == 40
    assert "best-000000040: damaged, the best weights are lost" in capsys.readouterr().err
    assert not (tmp_path / "out" / "best").exists()


def test_the_settings_of_evaluations_are_of_the_run(toy_folder: Path) -> None:
    """They decide the log's bytes, so a run that goes on must have them, too."""
    volatile = {field.name for field in dataclasses.fields(PretrainConfig) if field.metadata.get("volatile")}
    assert not volatile & {"eval_every_steps", "eval_batch_size", "max_eval_examples"}
