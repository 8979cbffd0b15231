"""A toy model's shape, vocabulary and records, made afresh by the tests of training."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.config import BertConfig
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.records.canonical import encode_examples

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *(f"word{number}" for number in range(35))]
TOY = BertConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
)
TRAINED = dataclasses.replace(TOY, num_hidden_layers=1)  # its graph is made in half the time


@pytest.fixture(scope="session")
def toy() -> BertConfig:
    return TOY


@pytest.fixture(scope="session")
def toy_batch() -> Callable[..., dict[str, np.ndarray]]:
    """Makes `count` random examples as a records batch; sequences end anywhere after half the length."""

    def make(count: int, length: int = 16, predictions: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(seed)
        ends = generator.integers(length // 2, length + 1, count)
        mask = (np.arange(length) < ends[:, None]).astype(np.int32)
        weights = np.ones((count, predictions), np.float32)
        weights[::2, -1] = 0.0
        return {
            "input_ids": generator.integers(5, len(WORDS), (count, length)).astype(np.int32) * mask,
            "input_mask": mask,
            "segment_ids": (np.arange(length) >= length // 3).astype(np.int32) * mask,
            "masked_lm_positions": generator.integers(1, length // 2, (count, predictions)).astype(np.int32),
            "masked_lm_ids": generator.integers(5, len(WORDS), (count, predictions)).astype(np.int32),
            "masked_lm_weights": weights,
            "next_sentence_labels": generator.integers(0, 2, count).astype(np.int32),
        }

    return make


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory, toy_batch) -> Path:
    """vocab.txt, bert_config.json (of one layer), records_16 (24 examples) and records_32 (24 examples)."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "bert_config.json").write_text(json.dumps(TRAINED.to_mapping()), encoding="utf-8")
    for length, predictions in ((16, 3), (32, 5)):
        records = folder / f"records_{length}"
        records.mkdir()
        batch = toy_batch(24, length, predictions, seed=length)
        batch["next_sentence_labels"] = batch["next_sentence_labels"][:, None]
        (records / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
    return folder


@pytest.fixture(scope="session")
def stage_config(toy_folder: Path) -> Callable[..., PretrainConfig]:
    """Makes the settings of the first of two stages, 64 steps of 96, without XLA; keywords change them."""

    def make(**changes: Any) -> PretrainConfig:
        settings = {
            "model": str(toy_folder / "bert_config.json"),
            "max_seq_length": 16,
            "train_batch_size": 8,
            "learning_rate": 1e-2,
            "num_train_steps": 96,
            "num_warmup_steps": 4,
            "stop_at_step": 64,
            "log_every_steps": 3,
            "save_checkpoints_steps": 2,
            "jit_compile": False,
        }
        return PretrainConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def stages(
    toy_folder: Path, stage_config: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Both stages without interruption: first/, second/ and their counts."""
    from bertline.model.pretraining.run import run

    folder = tmp_path_factory.mktemp("stages")
    for name in ("first", "second"):
        (folder / name).mkdir()
    counts = [
        run(
            toy_folder / "records_16",
            toy_folder / "vocab.txt",
            folder / "first",
            stage_config(),
            work=folder / "work_first",
            log_dir=folder / "events",
        ),
        run(
            toy_folder / "records_32",
            None,
            folder / "second",
            stage_config(max_seq_length=32, stop_at_step=0),
            work=folder / "work_second",
            checkpoint=folder / "first",
        ),
    ]
    (folder / "counts.json").write_text(json.dumps(counts))
    return folder
