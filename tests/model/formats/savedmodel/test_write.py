"""The SavedModel that is written has TF Hub's interface, computes what our model does, and stands on its own."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from bertline.model import heads
from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig
from bertline.model.formats.loaded_model import ENCODER, head_shapes
from bertline.model.formats.savedmodel.read import read_savedmodel
from bertline.model.formats.savedmodel.write import write_savedmodel
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import WordPieceTokenizer, parse_vocabulary

tf = pytest.importorskip("tensorflow")

PRETRAINED = ("pooler", "masked-LM head", "next-sentence head")
BOUND = 1e-5
# Run where this package cannot be imported: what a user without it does with the model.
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bertline":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

folder, sentences, out = sys.argv[1], sys.argv[2].split("|"), sys.argv[3]
encoder = tf.saved_model.load(folder)
inputs = tf.saved_model.load(folder + "/preprocessing")(tf.constant(sentences))
outputs = encoder(inputs)
mlm = encoder.mlm({**inputs, "masked_lm_positions": tf.constant([[1, 2]] * len(sentences))})
np.savez(
    out,
    **{name: outputs[name] for name in ("pooled_output", "sequence_output", "default")},
    **{f"layer_{number}": layer for number, layer in enumerate(outputs["encoder_outputs"])},
    mlm_logits=mlm["mlm_logits"],
    vocabulary=encoder.vocab_file.asset_path.numpy().decode(),
    do_lower_case=encoder.do_lower_case,
)
assert not [name for name in sys.modules if name.partition(".")[0] == "bertline"]
"""


@pytest.fixture(scope="module")
def model_of(toy: BertConfig, toy_folder: Path) -> Callable[..., Checkpoint]:
    def make(*heads: str, layers: int = 1, **fields: Any) -> Checkpoint:
        config = dataclasses.replace(toy, num_hidden_layers=layers)
        shapes = {name: shape for head in (ENCODER, *heads) for name, shape in head_shapes(config, 3)[head].items()}
        weights = initial_weights(shapes, 0.2, seed=1)
        biases = np.random.default_rng(2)
        weights = {
            name: array if array.any() else biases.normal(0, 0.1, array.shape).astype(np.float32)
            for name, array in weights.items()
        }
        state = fields.pop("state", {"step": 3})
        return Checkpoint(config, weights, (toy_folder / "vocab.txt").read_bytes(), True, state, **fields)

    return make


def written(folder: Path, checkpoint: Checkpoint) -> Any:
    folder.mkdir()
    write_savedmodel(folder, checkpoint)
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def pretrained(model_of: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    counts = write_savedmodel(folder, model_of(*PRETRAINED, layers=2))
    assert counts == {"variables": 46, "parameters": 21802}
    return folder


def hub_inputs(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    names = {"input_word_ids": "input_ids", "input_mask": "input_mask", "input_type_ids": "segment_ids"}
    return {theirs: tf.constant(batch[ours]) for theirs, ours in names.items()}


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=BOUND)


def test_runs_in_a_process_without_this_package(
    pretrained: Path, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    checkpoint, out = model_of(*PRETRAINED, layers=2), tmp_path / "out.npz"
    sentences = ["word1 WORD22, word3", "word7"]
    subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(pretrained), "|".join(sentences), str(out)], check=True, cwd=tmp_path
    )
    found = np.load(out)
    tokenizer = WordPieceTokenizer(parse_vocabulary(checkpoint.vocabulary, "vocab.txt"))
    batch = encode_pairs(tokenizer, sentences, None, checkpoint.bert_config.max_position_embeddings)
    encoded = heads.encode_batch(checkpoint.weights, checkpoint.bert_config, batch)
    positions = np.array([[1, 2]] * 2, np.int32)
    logits = heads.masked_lm_logits(checkpoint.weights, checkpoint.bert_config, encoded.sequence, positions)
    assert_near(found["pooled_output"], encoded.pooled)
    assert_near(found["sequence_output"], encoded.sequence)
    assert_near(found["mlm_logits"], logits)
    for number, layer in enumerate(encoded.layers):
        assert_near(found[f"layer_{number}"], layer)
    np.testing.assert_array_equal(found["default"], found["pooled_output"])
    assert found["do_lower_case"]
    assert Path(str(found["vocabulary"])).read_bytes() == checkpoint.vocabulary


def test_batches_and_lengths_are_free_in_every_signature(
    model_of: Callable[..., Checkpoint], toy_batch: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    checkpoint = model_of(*PRETRAINED, "classifier", "answer-span head")
    model = written(tmp_path / "model", checkpoint)
    weights, config = checkpoint.weights, checkpoint.bert_config
    assert set(model.signatures) == {"serving_default", "mlm", "next_sentence", "classify", "answer_spans"}
    for count, length in ((1, 4), (5, 32)):
        batch = toy_batch(count, length, 1)
        inputs, positions = hub_inputs(batch), batch["masked_lm_positions"]
        encoded = heads.encode_batch(weights, config, batch)
        served = model.signatures["serving_default"](**inputs)
        assert set(served) == {"sequence_output", "pooled_output", "default"}
        assert_near(served["sequence_output"], encoded.sequence)
        assert_near(model(inputs)["pooled_output"], encoded.pooled)
        scores = model.signatures["classify"](**inputs)
        logits = heads.classifier_logits(weights, encoded.pooled)
        assert_near(scores["logits"], logits)
        assert_near(scores["probabilities"], tf.nn.softmax(logits))
        spans, expected = model.signatures["answer_spans"](**inputs), heads.span_logits(weights, encoded.sequence)
        assert_near(spans["start_logits"], expected[:, :, 0])
        assert_near(spans["end_logits"], expected[:, :, 1])
        is_next = model.signatures["next_sentence"](**inputs)["logits"]
        assert_near(is_next, heads.next_sentence_logits(weights, encoded.pooled))
        mlm = model.signatures["mlm"](**inputs, masked_lm_positions=tf.constant(positions))["mlm_logits"]
        assert_near(mlm, heads.masked_lm_logits(weights, config, encoded.sequence, positions))


def test_can_be_fine_tuned(pretrained: Path, toy_batch: Callable[..., dict[str, np.ndarray]]) -> None:
    model = tf.saved_model.load(str(pretrained))
    encoder = 5 + 2 * 16 + 2  # embeddings, layers, pooler; no head of pretraining
    assert len(model.trainable_variables) == len(model.variables) == encoder
    assert len(model.mlm.trainable_variables) == encoder + 5
    assert list(model.regularization_losses) == []
    inputs = hub_inputs(toy_batch(4))

    def loss(training: bool) -> Any:
        return tf.reduce_mean(tf.square(model(inputs, training=training)["pooled_output"] - 0.5))

    assert float(loss(True)) != float(loss(True))  # dropout
    before = float(loss(False))
    assert float(loss(False)) == before
    with tf.GradientTape() as tape:
        value = loss(True)
    gradients = tape.gradient(value, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients):
        variable.assign_sub(0.05 * tf.convert_to_tensor(gradient))
    assert float(loss(False)) < before


def test_is_a_layer_for_keras(pretrained: Path, toy_batch: Callable[..., dict[str, np.ndarray]]) -> None:
    layer, inputs = keras.layers.TFSMLayer(str(pretrained), call_endpoint="__call__"), hub_inputs(toy_batch(2))
    expected = tf.saved_model.load(str(pretrained))(inputs)["pooled_output"]
    np.testing.assert_array_equal(layer(inputs)["pooled_output"], expected)


@pytest.mark.slow
def test_without_a_pooler_the_default_is_the_sequence(
    model_of: Callable[..., Checkpoint], toy_batch: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    model = written(tmp_path / "model", model_of("masked-LM head"))
    outputs = model(hub_inputs(toy_batch(2)))
    assert set(outputs) == {"sequence_output", "encoder_outputs", "default"}
    np.testing.assert_array_equal(outputs["default"], outputs["sequence_output"])
    assert set(model.signatures) == {"serving_default", "mlm"}


@pytest.mark.parametrize(
    "activation",
    ["gelu_erf", pytest.param("gelu", marks=pytest.mark.slow), pytest.param("relu", marks=pytest.mark.slow)],
)
def test_everything_comes_back(activation: str, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    made = model_of(
        "pooler",
        "classifier",
        state={"step": 9, "labels": ["no", "maybe", "yes"], "pending": [], "stage": {}},
        config_extras={"pooler_type": "first_token"},
    )
    made = dataclasses.replace(
        made,
        bert_config=dataclasses.replace(made.bert_config, hidden_act=activation, hidden_dropout_prob=0.2),
        do_lower_case=False,
        slots={"output_bias/adam_m": np.zeros(3, np.float32)},
    )
    folder = tmp_path / "model"
    folder.mkdir()
    assert write_savedmodel(folder, made)["slots_left_out"] == 1
    opened = read_savedmodel(folder)
    assert (opened.format, opened.heads, opened.unused) == ("savedmodel", ("pooler", "classifier"), ())
    read = opened.checkpoint
    assert {name: array.tobytes() for name, array in read.weights.items()} == {
        name: array.tobytes() for name, array in made.weights.items()
    }
    assert (read.bert_config, read.config_extras) == (made.bert_config, made.config_extras)
    assert (read.vocabulary, read.do_lower_case) == (made.vocabulary, False)
    assert read.state == {"step": 0, "labels": ["no", "maybe", "yes"]}


def test_same_model_same_bytes(pretrained: Path, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    first, second = pretrained, tmp_path
    write_savedmodel(second, model_of(*PRETRAINED, layers=2))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert {str(file) for file in files} == {
        "assets.extra/bert_config.json",
        "assets.extra/model_state.json",
        "assets.extra/tokenizer_config.json",
        "assets/vocab.txt",
        "preprocessing/saved_model.pb",
        "preprocessing/variables/variables.data-00000-of-00001",
        "preprocessing/variables/variables.index",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_no_path_and_no_keras_object_is_in_the_files(pretrained: Path) -> None:
    graph = (pretrained / "saved_model.pb").read_bytes()
    assert b"_tf_keras" not in graph
    assert str(pretrained).encode() not in graph
    assert str(Path(heads.__file__).parent).encode() not in graph


def test_other_backends_are_refused(
    model_of: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"not with jax; set KERAS_BACKEND=tensorflow"):
        write_savedmodel(tmp_path, model_of())
    assert list(tmp_path.iterdir()) == []
