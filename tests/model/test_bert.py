"""The encoder and heads against a plain float64 NumPy BERT, and against the original's numbers."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import in_precision, initial_weights
from bertline.model.config import BertConfig, classifier_shapes, parameter_count, pretraining_shapes, read_bert_config
from bertline.model.heads import (
    classifier_logits,
    encode_batch,
    masked_lm_logits,
    next_sentence_logits,
    pretraining_losses,
    pretraining_whole,
)
from bertline.model.training.backends.choice import compile_forward


def plain_dense(w, name, x):
    return x @ w[name + "/kernel"] + w[name + "/bias"]


def plain_norm(w, name, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * w[name + "/gamma"] + w[name + "/beta"]


def plain_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def plain_softmax(x):
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def plain_bert(w, config, batch):
    """Every layer's output and the pooled vector, one example at a time, in float64."""
    size = config.hidden_size // config.num_attention_heads
    layers, pooled = [], []
    for ids, mask, segments in zip(batch["input_ids"], batch["input_mask"], batch["segment_ids"], strict=True):
        e = "bert/embeddings/"
        x = w[e + "word_embeddings"][ids] + w[e + "token_type_embeddings"][segments]
        x = plain_norm(w, e + "LayerNorm", x + w[e + "position_embeddings"][: len(ids)])
        outputs = [x]
        for number in range(config.num_hidden_layers):
            p = f"bert/encoder/layer_{number}/"

            def norm(name, x, here):
                return plain_norm(w, f"{p}{name}/LayerNorm", x) if here else x  # noqa: B023

            before, after = config.pre_layer_norm, not config.pre_layer_norm
            read = norm("attention/output", x, before)
            q, k, v = (plain_dense(w, f"{p}attention/self/{part}", read) for part in ("query", "key", "value"))
            context = np.zeros_like(x)
            for head in range(config.num_attention_heads):
                part = slice(head * size, (head + 1) * size)
                scores = q[:, part] @ k[:, part].T / math.sqrt(size) + (1 - mask) * -10000.0
                context[:, part] = plain_softmax(scores) @ v[:, part]
            x = norm("attention/output", x + plain_dense(w, p + "attention/output/dense", context), after)
            inner = plain_gelu(plain_dense(w, p + "intermediate/dense", norm("output", x, before)))
            x = norm("output", x + plain_dense(w, p + "output/dense", inner), after)
            outputs.append(x)
        if config.pre_layer_norm:
            x = outputs[-1] = plain_norm(w, "bert/encoder/LayerNorm", x)
        layers.append(outputs)
        pooled.append(np.tanh(plain_dense(w, "bert/pooler/dense", x[0])))
    return np.stack(layers, axis=1), np.stack(pooled)


def plain_losses(w, sequence, pooled, batch):
    surprises, counted = [], []
    for x, positions, ids, weights in zip(
        sequence, batch["masked_lm_positions"], batch["masked_lm_ids"], batch["masked_lm_weights"], strict=True
    ):
        h = plain_gelu(plain_dense(w, "cls/predictions/transform/dense", x[positions]))
        h = plain_norm(w, "cls/predictions/transform/LayerNorm", h)
        logits = h @ w["bert/embeddings/word_embeddings"].T + w["cls/predictions/output_bias"]
        surprises += [-np.log(plain_softmax(row)[label]) for row, label in zip(logits, ids, strict=True)]
        counted += weights.tolist()
    next_sentence = pooled @ w["cls/seq_relationship/output_weights"].T + w["cls/seq_relationship/output_bias"]
    shares = plain_softmax(next_sentence)[np.arange(len(pooled)), batch["next_sentence_labels"]]
    return np.dot(surprises, counted) / (sum(counted) + 1e-5), -np.log(shares).mean()


@pytest.fixture(scope="module")
def lively(toy: BertConfig) -> dict[str, np.ndarray]:
    """`lively_weights` of the toy model."""
    return lively_weights(toy)


def lively_weights(config: BertConfig) -> dict[str, np.ndarray]:
    """Weights far from their first values, so that every variable matters."""
    generator = np.random.default_rng(1)
    return {
        name: (array + 0.1 * generator.standard_normal(array.shape)).astype(np.float32)
        for name, array in initial_weights(pretraining_shapes(config), 0.05, seed=3).items()
    }


def compute_compiled(weights, config, batch):
    """Embeddings and all layers, the pooler's output, and the losses; operation by operation JAX takes a minute."""

    def compute(weights, batch):
        encoded = encode_batch(weights, config, batch)
        losses = pretraining_losses(weights, config, batch, pretraining_whole(batch))
        return (encoded.embeddings, *encoded.layers), encoded.pooled, losses

    return compile_forward(compute, weights, jit_compile=False)(batch)


@pytest.mark.jax
@pytest.mark.parametrize("pre_layer_norm", [False, True])
def test_encoder_and_losses_equal_plain_numpy(toy, toy_batch, pre_layer_norm: bool) -> None:
    toy = dataclasses.replace(toy, pre_layer_norm=pre_layer_norm)
    lively, batch = lively_weights(toy), toy_batch(5)
    assert parameter_count(toy) == sum(array.size for array in lively.values())
    ours, our_pooled, losses = compute_compiled(lively, toy, batch)
    wide = {name: array.astype(np.float64) for name, array in lively.items()}
    layers, pooled = plain_bert(wide, toy, batch)
    for our_layer, theirs in zip(ours, layers, strict=True):
        np.testing.assert_allclose(np.asarray(our_layer), theirs, atol=1e-5)
    np.testing.assert_allclose(np.asarray(our_pooled), pooled, atol=1e-5)
    mlm_loss, nsp_loss = plain_losses(wide, layers[-1], pooled, batch)
    np.testing.assert_allclose(float(losses["mlm_loss"]), mlm_loss, atol=1e-5)
    np.testing.assert_allclose(float(losses["nsp_loss"]), nsp_loss, atol=1e-5)
    np.testing.assert_allclose(float(losses["loss"]), mlm_loss + nsp_loss, atol=1e-5)


def test_padding_changes_nothing(toy, toy_batch, lively) -> None:
    short = toy_batch(2, length=8)
    padded = {name: np.pad(array, ((0, 0), (0, 8))) for name, array in short.items() if name in INPUTS}
    np.testing.assert_allclose(
        np.asarray(encode_batch(lively, toy, padded).sequence)[:, :8][short["input_mask"] == 1],
        np.asarray(encode_batch(lively, toy, short).sequence)[short["input_mask"] == 1],
        atol=2e-6,
    )


INPUTS = ("input_ids", "input_mask", "segment_ids")


def test_classifier_head(toy, toy_batch) -> None:
    weights = initial_weights(classifier_shapes(toy, 3), 0.02, seed=3)
    pooled = np.ones((1, toy.hidden_size), np.float32)
    expected = weights["output_weights"].sum(axis=1) + weights["output_bias"]
    np.testing.assert_allclose(np.asarray(classifier_logits(weights, pooled))[0], expected, atol=1e-6)


def test_bfloat16_stays_near_and_its_losses_are_float32(toy, toy_batch, lively) -> None:
    batch = toy_batch(5)
    exact = pretraining_losses(lively, toy, batch, pretraining_whole(batch))
    rounded = pretraining_losses(in_precision(lively, "mixed_bfloat16"), toy, batch, pretraining_whole(batch))
    assert rounded["loss"].dtype == "float32"
    assert abs(float(rounded["loss"]) - float(exact["loss"])) < 0.05


def test_first_weights_are_truncated_normal_and_equal_for_equal_seeds() -> None:
    config = BertConfig(vocab_size=3000, hidden_size=64, num_hidden_layers=1, num_attention_heads=1)
    weights = initial_weights(pretraining_shapes(config), 0.02, seed=7)
    words = weights["bert/embeddings/word_embeddings"]
    assert np.abs(words).max() <= 0.04
    # A normal distribution cut at two standard deviations has 0.8796 of its width.
    assert abs(words.std() / 0.02 - 0.8796) < 0.01
    assert set(weights["bert/pooler/dense/bias"]) == {0.0}
    assert set(weights["bert/embeddings/LayerNorm/gamma"]) == {1.0}
    again = initial_weights(pretraining_shapes(config), 0.02, seed=7)
    assert all(np.array_equal(again[name], array) for name, array in weights.items())
    other = initial_weights(pretraining_shapes(config), 0.02, seed=8)
    assert not np.array_equal(other["bert/embeddings/word_embeddings"], words)


def test_shapes_hold_the_known_number_of_parameters() -> None:
    base = BertConfig(vocab_size=30522)
    assert sum(math.prod(shape) for shape in pretraining_shapes(base).values()) == 110_106_428
    assert parameter_count(base) == 110_106_428


def test_other_activations_are_used(toy, toy_batch, lively) -> None:
    batch = toy_batch(2)
    results = {
        name: float(
            pretraining_losses(lively, dataclasses.replace(toy, hidden_act=name), batch, pretraining_whole(batch))[
                "loss"
            ]
        )
        for name in ("gelu", "relu", "tanh", "linear")
    }
    assert len(set(results.values())) == 4


@pytest.mark.jax
@pytest.mark.golden
def test_forward_equals_the_original(reference: Path) -> None:
    """model_outputs.npz holds what google-research/bert @ eedf571 computes under TensorFlow 1.15.5."""
    config = read_bert_config(reference / "bert_config.json")
    stored = np.load(reference / "model_weights.npz")
    weights = {name.replace("|", "/"): stored[name] for name in stored}
    golden = np.load(reference / "model_outputs.npz")
    batch = {
        "input_ids": golden["ids"].astype(np.int32),
        "input_mask": golden["mask"].astype(np.int32),
        "segment_ids": golden["seg"].astype(np.int32),
        "masked_lm_positions": golden["pos"].astype(np.int32),
        "masked_lm_ids": golden["lab"].astype(np.int32),
        "masked_lm_weights": golden["wt"],
        "next_sentence_labels": golden["nsl"][:, 0].astype(np.int32),
    }
    assert {name: array.shape for name, array in weights.items()} == pretraining_shapes(config)
    encoded = encode_batch(weights, config, batch)
    words = masked_lm_logits(weights, config, encoded.sequence, batch["masked_lm_positions"])
    losses = pretraining_losses(weights, config, batch, pretraining_whole(batch))
    ours = {
        "emb": encoded.embeddings,
        "layer0": encoded.layers[0],
        "layer1": encoded.layers[1],
        "seq": encoded.sequence,
        "pooled": encoded.pooled,
        "mlm_lp": np.log(plain_softmax(np.asarray(words, np.float64))).reshape(20, -1),
        "nsp_lp": np.log(plain_softmax(np.asarray(next_sentence_logits(weights, encoded.pooled), np.float64))),
        "mlm_loss": losses["mlm_loss"],
        "nsp_loss": losses["nsp_loss"],
    }
    for name, value in ours.items():
        np.testing.assert_allclose(np.asarray(value), golden[name], rtol=0, atol=2e-6, err_msg=name)
