"""The file that google-research/bert's extract_features.py wrote, from the same weights and text."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bertline.model.config import read_bert_config
from bertline.model.features.run import FeaturesConfig, run
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint

pytestmark = pytest.mark.golden
NUMBER = re.compile(r"-?\d+\.\d+(?:e-\d+)?|-?\de-\d+")


def same_but_for_the_last_digit(found: str, expected: str) -> None:
    """The text around the numbers is equal, and each number within one unit of the sixth decimal."""
    assert NUMBER.sub("", found) == NUMBER.sub("", expected)
    ours, theirs = (np.array(list(map(float, NUMBER.findall(text)))) for text in (found, expected))
    assert len(ours) == 1984
    assert np.abs(ours - theirs).max() < 1.001e-6
    assert all(json.dumps(round(number, 6)) == text for number, text in zip(ours, NUMBER.findall(found)))


def test_our_checkpoint_gives_the_originals_file(reference: Path, tmp_path: Path) -> None:
    with np.load(reference / "model_weights.npz") as archive:
        weights = {name.replace("|", "/"): archive[name] for name in archive}
    model, vocabulary = tmp_path / "model", (reference / "vocab.txt").read_bytes()
    model.mkdir()
    config = read_bert_config(reference / "bert_config.json")
    write_checkpoint(model, Checkpoint(config, weights, vocabulary, True, {"step": 40}))
    _extract(reference, tmp_path, model)


def test_the_originals_checkpoint_gives_the_originals_file(reference: Path, tmp_path: Path) -> None:
    files = {name: reference / f"{stem}" for name, stem in _FILES.items()}
    _extract(reference, tmp_path, reference / "tf1_checkpoint" / "model.ckpt-40", **files)


_FILES = {"vocab_file": "vocab.txt", "bert_config_file": "bert_config.json"}


def _extract(reference: Path, tmp_path: Path, model: Path, **files: Path) -> None:
    out = tmp_path / "out.jsonl"
    text = reference / "extract_features_input.txt"
    run(model, str(text), out, FeaturesConfig(layers="-1,-2"), do_lower_case=True, **files)
    same_but_for_the_last_digit(out.read_text(), (reference / "extract_features_output.jsonl").read_text())
