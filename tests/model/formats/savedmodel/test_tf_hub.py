"""What a SavedModel of another library does not say plainly: its activation, its heads, its unused variables."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.formats.loaded_model import ENCODER, POOLER, head_shapes
from bertline.model.formats.savedmodel.read import read_savedmodel
from bertline.model.training.checkpoint import Checkpoint

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def checkpoint(toy, toy_folder: Path) -> Checkpoint:
    """A model with two heads of 64 numbers, as many as a released model of this width has."""
    config = dataclasses.replace(toy, hidden_size=128, intermediate_size=48)
    shapes = head_shapes(config)
    weights = initial_weights(shapes[ENCODER] | shapes[POOLER], 0.2, seed=1)
    return Checkpoint(config, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 0})


@pytest.fixture
def save(garden_name: Callable[[str], str], save_garden: Callable[..., Path]) -> Callable[..., Path]:
    """A SavedModel with Model Garden's names, kernels of attention without an axis of heads, and a function."""

    def save(
        folder: Path, checkpoint: Checkpoint, *, activation: Any = None, more: dict[str, Any] | None = None
    ) -> Path:
        arrays = {garden_name(name): array for name, array in checkpoint.weights.items()} | (more or {})
        attributes: dict[str, Any] = {"do_lower_case": tf.Variable(True, trainable=False)}
        if activation is not None:
            attributes["compute"] = tf.function(activation, [tf.TensorSpec([None], tf.float32)])
        return save_garden(folder, checkpoint.vocabulary, arrays, **attributes)

    return save


@pytest.mark.parametrize(
    ("activation", "ours", "remark"),
    [
        (lambda x: tf.nn.gelu(x, approximate=True), "gelu", "computes the tanh form of GELU"),
        (lambda x: tf.nn.gelu(x, approximate=False), "gelu_erf", "computes the exact form of GELU"),
        (tf.nn.relu, "relu", "computes ReLU"),
        (None, "gelu", "does not show its activation, and the tanh form of GELU was taken"),
    ],
)
def test_the_activation_is_what_the_graph_computes(
    save: Callable[..., Path],
    activation: Callable[[Any], Any] | None,
    ours: str,
    remark: str,
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    opened = read_savedmodel(save(tmp_path / "model", checkpoint, activation=activation))
    assert opened.checkpoint.bert_config == dataclasses.replace(checkpoint.bert_config, hidden_act=ours)
    assert remark in opened.remarks[0]
    assert "2 were taken, of 64 numbers each" in opened.remarks[1]
    assert all(np.array_equal(opened.checkpoint.weights[name], array) for name, array in checkpoint.weights.items())


def test_optimizers_and_other_heads_are_left_out_and_named(
    save: Callable[..., Path], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    words = checkpoint.weights["bert/embeddings/word_embeddings"]
    more = {"Adam/m/word_embeddings/embeddings": words * 2, "dense/kernel": words[:3], "half": words.astype(np.float16)}
    opened = read_savedmodel(save(tmp_path / "model", checkpoint, more=more))
    assert opened.unused == ("Adam/m/word_embeddings/embeddings", "dense/kernel", "half")
    assert set(opened.checkpoint.weights) == set(checkpoint.weights)


def test_a_second_encoder_is_refused(save: Callable[..., Path], checkpoint: Checkpoint, tmp_path: Path) -> None:
    more = {"second/word_embeddings/embeddings": checkpoint.weights["bert/embeddings/word_embeddings"] * 2}
    with pytest.raises(ValueError, match=r"holds bert/embeddings/word_embeddings twice, with other values"):
        read_savedmodel(save(tmp_path / "model", checkpoint, more=more))


def test_layers_of_another_kind_are_refused(save: Callable[..., Path], checkpoint: Checkpoint, tmp_path: Path) -> None:
    kept = {name: array for name, array in checkpoint.weights.items() if "/encoder/" not in name}
    shared = dataclasses.replace(checkpoint, weights=kept)  # as ALBERT, whose layers are one
    with pytest.raises(ValueError, match=r"model: has no bert/encoder/layer_0/attention/self/query/kernel; only"):
        read_savedmodel(save(tmp_path / "model", shared))


def test_a_cut_graph_is_named(save: Callable[..., Path], checkpoint: Checkpoint, tmp_path: Path) -> None:
    graph = save(tmp_path / "model", checkpoint) / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"saved_model\.pb: not a whole SavedModel"):
        read_savedmodel(tmp_path / "model")


def test_modules_for_tensorflow_1_are_read_by_the_original_s_names(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "module"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        kept = {name: tf.compat.v1.Variable(array, name=f"module/{name}") for name, array in checkpoint.weights.items()}
        x = tf.compat.v1.placeholder(tf.float32, [None])
        tf.nn.gelu(x, approximate=True)
        session.run([variable.initializer for variable in kept.values()])
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.save()
    (folder / "assets").mkdir()
    (folder / "assets" / "vocab.txt").write_bytes(checkpoint.vocabulary)
    opened = read_savedmodel(folder)
    assert opened.heads == ("pooler",)
    assert opened.checkpoint.bert_config == checkpoint.bert_config
    assert opened.checkpoint.do_lower_case
    assert all(np.array_equal(opened.checkpoint.weights[name], array) for name, array in checkpoint.weights.items())
    assert "computes the tanh form of GELU" in opened.remarks[0]
