"""`bertline pretrain` as its user meets it: bad input ends with 2 and leaves nothing, SIGTERM with 75."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bertline.components.artifacts import Recipe, publish
from bertline.model.example_encoding import encode_examples
from bertline.pipelines.cli import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(15))]
SHAPE = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SHAPE |= {"max_position_embeddings": 16}
SECONDS = 120


@dataclass(frozen=True)
class NoConfig:
    pass


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """records (an artifact of 10 examples of length 16), vocab.txt, bert_config.json, and smaller ones of both."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, count in (("", 20), ("fewer_", 12)):
        (folder / f"{name}vocab.txt").write_text("\n".join(WORDS[:count]) + "\n")
        (folder / f"{name}bert_config.json").write_text(json.dumps(SHAPE | {"vocab_size": count}))
    generator = np.random.default_rng(1)
    batch = {
        "input_ids": generator.integers(5, 20, (10, 16)),
        "input_mask": np.ones((10, 16), np.int32),
        "segment_ids": np.zeros((10, 16), np.int32),
        "masked_lm_positions": generator.integers(1, 16, (10, 2)),
        "masked_lm_ids": generator.integers(5, 20, (10, 2)),
        "masked_lm_weights": np.ones((10, 2), np.float32),
        "next_sentence_labels": generator.integers(0, 2, (10, 1)),
    }

    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
        return {"examples": 10}

    publish(folder / "records", Recipe("records_16", "prepare", {}, NoConfig(), ["bertline.components.prepare"]), write)
    return folder


def arguments(inputs: Path, out: Path, *flags: str) -> list[str]:
    given = [f"--records={inputs / 'records'}", f"--vocab={inputs / 'vocab.txt'}", f"--out={out}"]
    settings = [f"--model={inputs / 'bert_config.json'}", "--max_seq_length=16", "--train_batch_size=4"]
    steps = ["--num_train_steps=5000", "--num_warmup_steps=2", "--save_checkpoints_steps=1", "--jit_compile=false"]
    return ["pretrain", *given, *settings, *steps, *flags]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_seq_length=12"], "max_seq_length is 16, this stage needs 12"),
        (["--train_batch_size=11"], "10 examples are fewer than one batch of 11"),
        (
            ["--vocab=INPUTS/fewer_vocab.txt", "--model=INPUTS/fewer_bert_config.json"],
            "but the vocabulary has 12 entries",
        ),
        (["--model=INPUTS/fewer_bert_config.json"], "vocab_size is 12, but the vocabulary has 20"),
        (["--gradient_accumulation_steps=3"], "no multiple of gradient_accumulation_steps"),
        (["--devices=2"], "several devices share a batch on the jax backend only"),
        (["--steps_per_call=0"], "steps_per_call is 0; it must be at least 1"),
        (["--keep_checkpoints=0"], "keep_checkpoints is 0; it must be at least 1"),
        (["--checkpoint=INPUTS/records"], "holds records_16, but checkpoint are wanted here"),
        (["--checkpoint=INPUTS/none"], "none: no such artifact"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(
    flags: list[str], message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag.replace("INPUTS", str(inputs)) for flag in flags]
    assert main(arguments(inputs, tmp_path / "out", *flags)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()


def started(argv: list[str], **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bertline.pipelines.cli", *argv]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def test_more_devices_than_there_are_end_with_2(inputs: Path, tmp_path: Path) -> None:
    flags = "--xla_force_host_platform_device_count=2"
    process = started(arguments(inputs, tmp_path / "out", "--backend=jax", "--devices=4"), XLA_FLAGS=flags)
    message = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2, message
    assert "devices is 4, but JAX finds 2 here" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sigterm_ends_with_75_and_a_snapshot(inputs: Path, tmp_path: Path) -> None:
    process, deadline = started(arguments(inputs, tmp_path / "out")), time.monotonic() + SECONDS
    while not list((tmp_path / "out.work").glob("snapshot-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 75, message
    assert "by SIGTERM, all of it saved; the same command goes on from there" in message
    assert not (tmp_path / "out").exists()
