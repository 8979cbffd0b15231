"""An interrupted stage goes on: killed, preempted or out of disk, it ends with the bytes of one that was not."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.pretraining.run import run
from bertline.model.records.canonical import encode_examples
from bertline.model.training.checkpoint import evaluations, rows_of, training_rows
from bertline.model.training.snapshots import newest_snapshot, read_snapshot, snapshot_steps
from bertline.preemption import PreemptedError

SECONDS = 600  # that anything waited for may take, on a busy machine
KILLS = 5  # in each stage


def fresh(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_for_a_snapshot_after(step: int, work: Path, process: BaseProcess | None = None) -> int:
    """The step of the newest snapshot, once there is a newer one."""
    deadline = time.monotonic() + SECONDS
    while not (steps := snapshot_steps(work)) or steps[-1] <= step:
        assert process is None or process.is_alive(), f"ended before a snapshot after step {step}"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return steps[-1]


def kill_somewhere(process: BaseProcess, work: Path, generator: np.random.Generator, *, writing: bool) -> None:
    """SIGKILL after a few more snapshots, and a random part of the time that one takes, or while one is written."""
    newest = max(snapshot_steps(work), default=0)
    for _ in range(generator.integers(2, 4)):
        since = time.monotonic()
        newest = wait_for_a_snapshot_after(newest, work, process)
    time.sleep(generator.uniform() * (time.monotonic() - since))
    while writing and process.is_alive() and not half_written(work):
        pass
    process.kill()
    process.join(SECONDS)
    assert process.exitcode == -signal.SIGKILL


def half_written(work: Path) -> list[Path]:
    return list(work.glob(".snapshot-0*.tmp"))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts each run with all modules loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["bertline.model.pretraining.run", "bertline.model.training.update", "bertline.model.heads"]
    )
    return context


def test_killed_once_it_goes_on_to_the_same_bytes(
    processes: ForkServerContext, stages: Path, toy_folder: Path, stage_config, first_stage, tmp_path: Path
) -> None:
    paths = {"records": toy_folder / "records_16", "vocab": toy_folder / "vocab.txt", "out": fresh(tmp_path / "killed")}
    config = stage_config(save_checkpoints_steps=1)
    process = processes.Process(target=run, kwargs={**paths, "config": config, "work": tmp_path / "work"})
    process.start()
    kill_somewhere(process, tmp_path / "work", np.random.default_rng(20), writing=False)
    assert not list(paths["out"].iterdir())
    assert files_of(first_stage("resumed")) == files_of(stages / "first")


@pytest.mark.slow
def test_killed_ten_times_in_two_stages_the_bytes_are_those_of_an_uninterrupted_run(
    processes: ForkServerContext, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    """Kills fall between steps, into calls of several, and into snapshots that are being written."""
    generator = np.random.default_rng(20)

    def started(stage: str, place: Path, **changes: Any) -> BaseProcess:
        vocab = {"records": toy_folder / "records_16", "vocab": toy_folder / "vocab.txt"}
        first = {"records": toy_folder / "records_32", "vocab": None, "checkpoint": place / "first"}
        shared = {"num_train_steps": 200, "save_checkpoints_steps": 3, "jit_compile": True}
        settings = {"first": {"stop_at_step": 100}, "second": {"stop_at_step": 0, "max_seq_length": 32}}[stage]
        several = {"steps_per_call": 2} if stage == "second" else {}
        arguments = (vocab if stage == "first" else first) | {"out": place / stage, "work": place / f"work_{stage}"}
        arguments["config"] = stage_config(**shared | settings | several | changes)
        process = processes.Process(target=run, kwargs=arguments)
        process.start()
        return process

    def ended(process: BaseProcess) -> None:
        process.join(SECONDS)
        assert process.exitcode == 0

    in_the_middle_of_writing = 0
    for stage in ("first", "second"):
        for place in (whole := tmp_path / "whole", killed := tmp_path / "killed"):
            fresh(place / stage)
        for number in range(KILLS):
            work = killed / f"work_{stage}"
            kill_somewhere(started(stage, killed), work, generator, writing=number % 2 == 1)
            in_the_middle_of_writing += bool(half_written(work))
        assert not list((killed / stage).iterdir())
        ended(started(stage, killed, save_checkpoints_steps=50))
        ended(started(stage, whole, save_checkpoints_steps=1000))
        assert not (whole / f"work_{stage}").exists()
        assert files_of(killed / stage) == files_of(whole / stage)
    assert in_the_middle_of_writing


@pytest.fixture
def first_stage(toy_folder: Path, stage_config, tmp_path: Path):
    """Runs the first stage in this process, in the work folder `tmp_path / "work"`; returns the checkpoint's folder."""

    def run_in(out: str, heldout: Path | None = None, **changes: Any) -> Path:
        records, vocab = toy_folder / "records_16", toy_folder / "vocab.txt"
        config = stage_config(**changes)
        run(records, vocab, fresh(tmp_path / out), config, work=tmp_path / "work", heldout=heldout)
        return tmp_path / out

    return run_in


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(
    number: signal.Signals, name: str, stages: Path, first_stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        wait_for_a_snapshot_after(0, tmp_path / "work")
        os.kill(os.getpid(), number)

    before = [(each, signal.signal(each, lambda number, frame: None)) for each in (signal.SIGTERM, signal.SIGINT)]
    try:
        threading.Thread(target=end, daemon=True).start()
        with pytest.raises(PreemptedError, match=rf"ended at step \d+ by {name}, all of it saved") as ended:
            first_stage("preempted", save_checkpoints_steps=1)
    finally:
        for each, handler in before:
            signal.signal(each, handler)
    step = snapshot_steps(tmp_path / "work")[-1]
    assert f"at step {step} by" in str(ended.value)
    assert not list((tmp_path / "work").glob(".*.tmp"))
    assert files_of(first_stage("resumed")) == files_of(stages / "first")
    assert f"training goes on from step {step}, its newest snapshot" in capsys.readouterr().err


@pytest.fixture
def snapshots(stages: Path, tmp_path: Path) -> Path:
    """The work folder of the first stage as an uninterrupted run leaves it, with snapshots of steps 60 and 62."""
    work = shutil.copytree(stages / "work_first", tmp_path / "work")
    assert snapshot_steps(work) == [60, 62]
    return work


def test_a_cut_snapshot_and_a_checkpoint_in_the_place_of_one_give_way_to_the_one_before_with_the_same_bytes(
    stages: Path, snapshots: Path, first_stage, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = snapshots / "snapshot-000000062" / "optimizer.safetensors"
    slots.write_bytes(slots.read_bytes()[:-1])
    shutil.copytree(stages / "first", snapshots / "snapshot-000000063")
    assert files_of(first_stage("resumed", save_checkpoints_steps=1)) == files_of(stages / "first")
    said = capsys.readouterr().err
    assert "snapshot-000000063: damaged, going back to the one before" in said
    assert "snapshot-000000062: damaged, going back to the one before" in said
    assert "optimizer.safetensors: not a whole safetensors file" in said
    assert snapshot_steps(snapshots) == [62, 63]
    assert newest_snapshot(snapshots, read_snapshot) is not None


FULL_DISK = """
import json, resource, sys, threading, time
from pathlib import Path
from bertline.model.pretraining.run import run
from bertline.model.pretraining.config import PretrainConfig

paths, config = json.loads(sys.argv[1])
paths = {name: Path(path) for name, path in paths.items()}

def fill():
    while not list(paths["work"].glob("snapshot-*")):
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

threading.Thread(target=fill, daemon=True).start()
try:
    run(**paths, config=PretrainConfig(**config))
except OSError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_stops_training_names_the_file_and_the_same_command_goes_on(
    stages: Path, toy_folder: Path, stage_config, first_stage, tmp_path: Path
) -> None:
    """A limit on the size of files, set after the first snapshot, stands for the disk's end."""
    paths = {"records": toy_folder / "records_16", "vocab": toy_folder / "vocab.txt", "out": fresh(tmp_path / "full")}
    paths["work"] = tmp_path / "work"
    config = stage_config(save_checkpoints_steps=1).__dict__
    request = json.dumps([{name: str(path) for name, path in paths.items()}, config])
    command = [sys.executable, "-c", FULL_DISK, request]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    step = int(printed.partition("the snapshot of step ")[2].split()[0])
    assert re.search(
        rf"\.snapshot-{step:09}\.\d+\.tmp/(model|optimizer)\.safetensors: could not write", printed
    )  # either file
    assert "is the disk full? Free space there and give the same command again" in printed
    assert f"the snapshot of step {step} is lost, the one before stays" in printed
    assert sorted(path.name for path in paths["work"].iterdir())[-1] == f"snapshot-{step - 1:09}"
    assert not list(paths["work"].glob(".*.tmp"))
    assert files_of(first_stage("resumed")) == files_of(stages / "first")


@pytest.mark.parametrize("steps_per_call", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_length_bins_are_trained_and_resumed_and_belong_to_the_run(
    steps_per_call: int, toy_folder: Path, toy_batch, stage_config, tmp_path: Path
) -> None:
    def write_bin(count: int, length: int, predictions: int) -> Path:
        batch = toy_batch(count, length, predictions, seed=length)
        batch["next_sentence_labels"] = batch["next_sentence_labels"][:, None]
        folder = fresh(tmp_path / "records" / f"length_{length}")
        (folder / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
        return folder

    narrow, _ = write_bin(20, 16, 2), write_bin(13, 32, 5)
    settings = {"max_seq_length": 32, "num_train_steps": 12, "stop_at_step": 0, "save_checkpoints_steps": 5}
    config = stage_config(**settings, steps_per_call=steps_per_call)
    for name in ("whole", "resumed"):  # the second goes on from the snapshot of step 10
        out = fresh(tmp_path / name)
        counts = run(tmp_path / "records", toy_folder / "vocab.txt", out, config, work=tmp_path / "work")
        assert (counts["examples.distinct"], counts["examples.seen"]) == (33, 96)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "resumed")
    narrow.rename(tmp_path / "elsewhere")
    write_bin(20, 24, 2)
    with pytest.raises(ValueError, match=r"interrupted run whose length_bins is .*'16': 20.* there and .*'24': 20"):
        run(tmp_path / "records", toy_folder / "vocab.txt", fresh(tmp_path / "x"), config, work=tmp_path / "work")


ON_JAX = """
import json, shutil, sys
from pathlib import Path
from bertline.model.pretraining.run import run
from bertline.model.pretraining.config import PretrainConfig

paths, config = json.loads(sys.argv[1])
paths = {name: Path(path) for name, path in paths.items()}
for out in ("whole", "resumed"):
    (paths["work"].parent / out).mkdir()
    run(**paths, out=paths["work"].parent / out, config=PretrainConfig(**config))
    shutil.rmtree(max(paths["work"].glob("snapshot-*")))
"""


@pytest.mark.slow
def test_on_jax_with_two_devices_a_snapshot_holds_the_weights_of_its_step(
    toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    """Updates go on in the memory of the weights while a snapshot of them is written."""
    paths = {"records": toy_folder / "records_16", "vocab": toy_folder / "vocab.txt", "work": tmp_path / "work"}
    config = stage_config(backend="jax", devices=2, steps_per_call=2, stop_at_step=21).__dict__
    request = json.dumps([{name: str(path) for name, path in paths.items()}, config])
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", ON_JAX, request], check=True, env=environment, timeout=SECONDS)
    assert snapshot_steps(tmp_path / "work") == [18]
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed is 12345 there and 1 here"),
        ({"steps_per_call": 2}, "steps_per_call is 1 there and 2 here"),
        ({"model": "tiny"}, "model is .*bert_config.json there and tiny here"),
        ({"train_batch_size": 4, "dropout": 0.0}, "dropout is -1.0 there and 0.0 here, train_batch_size is 8"),
    ],
)
def test_a_work_folder_of_another_run_is_refused(
    stages: Path, toy_folder: Path, stage_config, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    records, vocab, work = toy_folder / "records_16", toy_folder / "vocab.txt", stages / "work_first"
    with pytest.raises(ValueError, match=rf"work_first holds an interrupted run whose .*{message}.*; repeat that run"):
        run(records, vocab, tmp_path, stage_config(**changes), work=work)
    assert not list(tmp_path.iterdir())


def test_a_work_folder_of_another_stage_is_refused(
    stages: Path, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    config = stage_config(max_seq_length=32, stop_at_step=0)
    places = {"work": stages / "work_first", "checkpoint": stages / "first"}
    with pytest.raises(ValueError, match=r"first_step is 0 there and 64 here.*max_seq_length is 16 there and 32"):
        run(toy_folder / "records_32", None, tmp_path, config, **places)


def test_a_snapshot_of_a_version_that_knew_fewer_settings_goes_on_where_they_have_their_defaults(
    stages: Path, snapshots: Path, first_stage
) -> None:
    for snapshot in snapshots.iterdir():
        path = snapshot / "training_state.json"
        state = json.loads(path.read_text())
        del state["stage"]["pre_layer_norm"], state["stage"]["recompute_layers"]
        path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="recompute_layers is 0 there and 1 here"):
        first_stage("other", recompute_layers=1)
    assert files_of(first_stage("resumed")) == files_of(stages / "first")


@pytest.mark.slow
def test_how_often_snapshots_come_and_stay_may_change_on_the_way(stages: Path, snapshots: Path, first_stage) -> None:
    resumed = first_stage("resumed", save_checkpoints_steps=1000, keep_checkpoints=1, keep_checkpoints_every_steps=10)
    assert files_of(resumed) == files_of(stages / "first")


def test_snapshots_and_scores_come_at_the_ends_of_calls(first_stage, toy_folder: Path, tmp_path: Path) -> None:
    settings = {"steps_per_call": 4, "stop_at_step": 19, "log_every_steps": 1}
    often = {"save_checkpoints_steps": 5, "keep_checkpoints": 9, "eval_every_steps": 6}
    out = first_stage("out", heldout=toy_folder / "records_16", **settings, **often)
    assert snapshot_steps(tmp_path / "work") == [8, 12, 16]
    rows = rows_of((out / "training_log.jsonl").read_text())
    assert [row["step"] for row in training_rows(rows)] == list(range(1, 20))
    assert [row["step"] for row in evaluations(rows)] == [8, 12, 19]
