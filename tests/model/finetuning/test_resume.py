"""An interrupted fine-tuning goes on: killed or preempted, it ends with the bytes of one that was not."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import pretraining_shapes
from bertline.model.finetuning.run import FinetuneConfig, run
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.model.training.snapshots import snapshot_steps
from bertline.preemption import TRY_AGAIN

SECONDS = 400  # that anything waited for may take
LABELS = ["no", "yes"]
SETTINGS: dict[str, Any] = {
    "max_seq_length": 16,
    "train_batch_size": 4,
    "learning_rate": 1e-3,
    "num_train_epochs": 60.0,  # 300 steps
    "log_every_steps": 7,
    "eval_every_steps": 40,
    "save_checkpoints_steps": 2,
    "jit_compile": False,
}
SHORT = SETTINGS | {"num_train_epochs": 1.0}  # 5 steps
COMMAND = """
import json, sys
from pathlib import Path
import numpy as np
from bertline.model.finetuning.run import FinetuneConfig, run
from bertline.preemption import TRY_AGAIN, PreemptedError
paths, config = json.loads(sys.argv[1])
paths = {name: Path(path) for name, path in paths.items()}
examples = {name: dict(np.load(paths.pop(name))) for name in ("train", "dev")}
try:
    run(**paths, **examples, labels=["no", "yes"], config=FinetuneConfig(**config))
except PreemptedError:
    sys.exit(TRY_AGAIN)
"""


def examples_of(count: int, seed: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(5, 40, (count, 16)).astype(np.int32)
    labels = (ids[:, 1] >= 22).astype(np.int32)
    return {"input_ids": ids, "input_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids), "label_ids": labels}


@pytest.fixture(scope="module")
def inputs(toy, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pretrained checkpoint, and both sets of a task."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "pretrained").mkdir()
    toy = dataclasses.replace(toy, num_hidden_layers=1)
    weights = initial_weights(pretraining_shapes(toy), 0.1, seed=1)
    vocabulary = (toy_folder / "vocab.txt").read_bytes()
    write_checkpoint(folder / "pretrained", Checkpoint(toy, weights, vocabulary, True, {"step": 40}))
    for name, count, seed in (("train", 20, 1), ("dev", 9, 2)):
        np.savez(folder / f"{name}.npz", **examples_of(count, seed))
    return {"checkpoint": folder / "pretrained", "train": folder / "train.npz", "dev": folder / "dev.npz"}


@pytest.fixture(scope="module")
def whole(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fine-tuning without interruption leaves."""
    folder = tmp_path_factory.mktemp("whole")
    return run_whole(inputs, folder / "out", folder / "work", SETTINGS)


def run_whole(inputs: dict[str, Path], out: Path, work: Path, settings: dict[str, Any]) -> Path:
    out.mkdir()
    train, dev = examples_of(20, 1), examples_of(9, 2)
    run(inputs["checkpoint"], train, dev, LABELS, out, FinetuneConfig(**settings), work=work)
    return out


def start(inputs: dict[str, Path], folder: Path) -> "subprocess.Popen[bytes]":
    paths = inputs | {"out": folder / "out", "work": folder / "work"}
    (folder / "out").mkdir(exist_ok=True)
    request = json.dumps([{name: str(path) for name, path in paths.items()}, SETTINGS])
    return subprocess.Popen([sys.executable, "-c", COMMAND, request], stderr=subprocess.DEVNULL)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_and_preempted_it_ends_with_the_bytes_of_an_uninterrupted_one(
    inputs: dict[str, Path], whole: Path, tmp_path: Path, signal_once
) -> None:
    work = tmp_path / "work"
    for after, number, code in (
        (5, signal.SIGKILL, -signal.SIGKILL),
        (130, signal.SIGKILL, -signal.SIGKILL),
        (200, signal.SIGTERM, TRY_AGAIN),
    ):
        process = start(inputs, tmp_path)
        signal_once(process, number, lambda step=after: max(snapshot_steps(work), default=0) > step)
        assert process.returncode == code
    assert not list((tmp_path / "out").iterdir())
    assert start(inputs, tmp_path).wait(timeout=SECONDS) == 0
    assert files_of(tmp_path / "out") == files_of(whole)


def test_other_settings_or_examples_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    run_whole(inputs, tmp_path / "first", work, SHORT)
    train, dev, config = examples_of(20, 1), examples_of(9, 2), FinetuneConfig(**SHORT)
    others = [
        (train, dev, FinetuneConfig(**SHORT | {"seed": 1}), "seed is 12345 there and 1 here"),
        (examples_of(20, 3), dev, config, "train is .* there and .* here"),
        (train, examples_of(9, 3), config, "dev is .* there and .* here"),
    ]
    out.mkdir()
    for other_train, other_dev, other_config, message in others:
        with pytest.raises(ValueError, match=rf"work holds an interrupted run whose .*{message}.*; repeat that run"):
            run(inputs["checkpoint"], other_train, other_dev, LABELS, out, other_config, work=work)
    assert not list(out.iterdir())
