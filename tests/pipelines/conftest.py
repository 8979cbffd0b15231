"""Small inputs of `bertline pretrain`, and its command lines."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.components.store.artifacts import Provenance, publish
from bertline.model.records.canonical import encode_examples

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(15))]
SHAPE = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SHAPE |= {"max_position_embeddings": 16}

Arguments = Callable[..., list[str]]
Started = Callable[..., "subprocess.Popen[str]"]


@dataclass(frozen=True)
class NoConfig:
    pass


@pytest.fixture(scope="session")
def pretrain_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """records and heldout (artifacts, 10 examples of length 16), vocab.txt, bert_config.json; fewer_ ones of these."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, count in (("", 20), ("fewer_", 12)):
        (folder / f"{name}vocab.txt").write_text("\n".join(WORDS[:count]) + "\n")
        (folder / f"{name}bert_config.json").write_text(json.dumps(SHAPE | {"vocab_size": count}))
    for name, seed in (("records", 1), ("heldout", 2)):
        publish(
            folder / name,
            Provenance("records_16", "prepare", {}, NoConfig(), ["bertline.components.pretraining_data.prepare"]),
            random_records(seed),
        )
    return folder


def random_records(seed: int) -> Callable[[Path, Path], dict[str, int | float]]:
    generator = np.random.default_rng(seed)
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

    return write


@pytest.fixture(scope="session")
def pretrain_arguments(pretrain_inputs: Path) -> Arguments:
    """The words of a long training into a folder; later flags win."""

    def arguments(out: Path, *flags: str) -> list[str]:
        given = [f"--records={pretrain_inputs / 'records'}", f"--vocab={pretrain_inputs / 'vocab.txt'}", f"--out={out}"]
        settings = [f"--model={pretrain_inputs / 'bert_config.json'}", "--max_seq_length=16", "--train_batch_size=4"]
        steps = ["--num_train_steps=5000", "--num_warmup_steps=2", "--save_checkpoints_steps=1", "--jit_compile=false"]
        return ["pretrain", *given, *settings, *steps, *flags]

    return arguments


@pytest.fixture(scope="session")
def started() -> Started:
    """Starts `bertline`, or a `program` in its place, with such words and an environment."""

    def start(argv: list[str], program: str = "", **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, *(["-c", program] if program else ["-m", "bertline"]), *argv]
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
        given: dict[str, Any] = {"env": os.environ | environment, "preexec_fn": listen}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **given)

    return start
