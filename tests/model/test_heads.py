"""The output layer in chunks has the loss and the gradients of all logits at once."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from bertline.model import heads
from bertline.model.heads import negative_log_likelihood, sum_surprise

BATCH, PREDICTIONS, HIDDEN, VOCABULARY = 3, 5, 4, 11


def at_once(hidden: tf.Tensor, embeddings: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> object:
    logits = ops.matmul(hidden, ops.transpose(embeddings)) + bias
    return ops.sum(negative_log_likelihood(logits, labels) * weights)


@pytest.mark.parametrize("predictions_a_chunk", [1, 2, 5])
def test_chunks_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch, predictions_a_chunk: int) -> None:
    monkeypatch.setitem(heads.CHUNK_BYTES, "tensorflow", BATCH * predictions_a_chunk * VOCABULARY * 4)
    random = np.random.default_rng(5)
    shapes = (BATCH, PREDICTIONS, HIDDEN), (VOCABULARY, HIDDEN), (VOCABULARY,)
    variables = [tf.constant(random.standard_normal(shape), tf.float32) for shape in shapes]
    labels = tf.constant(random.integers(0, VOCABULARY, (BATCH, PREDICTIONS)), tf.int32)
    weights = tf.constant(random.integers(0, 2, (BATCH, PREDICTIONS)), tf.float32)
    found = []
    for function in (sum_surprise, at_once):
        with tf.GradientTape() as tape:
            tape.watch(variables)
            loss = 3.0 * function(*variables, labels, weights)
        found.append([loss, *tape.gradient(loss, variables)])
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert float(found[0][0]) > 1.0


def test_scores_far_from_zero_do_not_overflow() -> None:
    hidden = tf.fill((1, 1, 1), 300.0)
    embeddings = tf.constant([[1.0], [-1.0], [0.0]])
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss = sum_surprise(hidden, embeddings, tf.zeros(3), tf.constant([[2]]), tf.ones((1, 1)))
    assert float(loss) == pytest.approx(300.0)
    np.testing.assert_allclose(tape.gradient(loss, hidden), [[[1.0]]])
