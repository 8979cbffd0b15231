"""Facts about a model, and the table of released sizes with the published counts."""

from pathlib import Path

import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, classifier_shapes
from bertline.model.formats.describe import describe_model, list_released_models, list_variables
from bertline.model.formats.detect import read_model
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint

# Millions with both heads: the README of google-research/bert for the small ones, Devlin et al. 2018 for the others.
PUBLISHED = {"2/128": 4.4, "4/256": 11.3, "4/512": 29.1, "8/512": 41.7, "12/768": 110.1, "24/1024": 336.2}


def test_the_26_released_models_have_the_published_parameter_counts() -> None:
    rows = list_released_models()
    assert len(rows) == 26
    assert sum(row["released by"] == "Turc et al. 2019" for row in rows) == 24
    counts = {row["model"]: row["with both heads"] for row in rows}
    assert {shape: round(counts[shape] / 1e6, 1) for shape in PUBLISHED} == PUBLISHED
    assert counts["12/768"] == 110_106_428
    assert {row["model"]: row["encoder and pooler"] for row in rows}["24/1024"] == 335_141_888


@pytest.fixture
def folder(toy: BertConfig, toy_folder: Path, tmp_path: Path) -> Path:
    weights = initial_weights(classifier_shapes(toy, 2), 0.1, seed=2)
    vocabulary = (toy_folder / "vocab.txt").read_bytes()
    state = {"step": 30, "labels": ["no", "yes"]}
    extras = {"pooler_type": "first_token_transform"}
    write_checkpoint(tmp_path, Checkpoint(toy, weights, vocabulary, False, state, config_extras=extras))
    return tmp_path


def test_a_model_is_described(folder: Path, toy: BertConfig) -> None:
    found = describe_model(read_model(folder))
    assert found["format"] == "bertline"
    assert found["shape"] == "2 layers of 32, 2 heads, feed-forward 64, gelu"
    assert found["heads"] == "pooler, classifier"
    assert (found["labels"], found["step"], found["Adam slots"]) == ("no, yes", 30, "no")
    assert found["vocabulary"] == "40 entries, 0 of them ## pieces"
    assert found["case"] == "cased"
    assert found["further settings"] == "pooler_type=first_token_transform"
    assert found["size"] == f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"


def test_variables_are_listed_with_shapes(folder: Path) -> None:
    rows = list_variables(read_model(folder))
    assert {"variable": "output_weights", "shape": "2 x 32"} in rows
    assert [row["variable"] for row in rows] == sorted(row["variable"] for row in rows)
