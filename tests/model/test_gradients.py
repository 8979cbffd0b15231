"""Losses and gradients are those of the original's graph, for a batch and for its micro-batches, on both backends.

tests/data/original_gradients.npz holds what google-research/bert @ eedf571 computes under TensorFlow 1.15.5.
"""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.heads import pretraining_losses, pretraining_whole
from bertline.model.training.backends.choice import compile_forward
from bertline.model.training.update import Objective, Schedule, Update, losses_and_gradients

STORED = Path(__file__).parents[1] / "data" / "original_gradients.npz"


@pytest.fixture(scope="module")
def original() -> SimpleNamespace:
    """The config; batch, weights and gradients by name; the two losses."""
    stored = np.load(STORED)
    config = BertConfig(**json.loads(str(stored["config"])))
    losses = {name: stored[name] for name in ("mlm_loss", "nsp_loss")}
    batch, weights, gradients = (
        {name.partition("|")[2]: stored[name] for name in stored if name.startswith(f"{kind}|")}
        for kind in ("batch", "weight", "gradient")
    )
    return SimpleNamespace(config=config, losses=losses, batch=batch, weights=weights, gradients=gradients)


@pytest.mark.jax
@pytest.mark.parametrize(
    ("micro_batches", "recompute"),
    [(1, 0), pytest.param(1, 1, marks=pytest.mark.slow), pytest.param(3, 0, marks=pytest.mark.slow)],
)
def test_losses_and_gradients_equal_the_original(original: SimpleNamespace, micro_batches: int, recompute: int) -> None:
    config = original.config
    assert {name: array.shape for name, array in original.weights.items()} == pretraining_shapes(config)

    def losses_of(weights, part, whole, dropout):  # without dropout, as the original's numbers
        return pretraining_losses(weights, config, part, whole, recompute=recompute)

    update = Update(Objective(pretraining_whole, losses_of), Schedule(1e-4, 100, 10), micro_batches=micro_batches)
    backend = importlib.import_module(f"bertline.model.training.backends.{keras.backend.backend()}")

    def compute(weights, batch):
        weights = {name: ops.convert_to_tensor(array) for name, array in weights.items()}
        return losses_and_gradients(update, backend.values_and_gradients, weights, 0, batch)

    losses, gradients = compile_forward(compute, original.weights, jit_compile=False)(original.batch)
    for name, value in original.losses.items():
        np.testing.assert_allclose(np.asarray(losses[name]), value, rtol=0, atol=2e-6, err_msg=name)
    assert set(gradients) == set(original.gradients)
    for name, gradient in original.gradients.items():
        assert np.abs(gradient).max() > 1e-4 or name.endswith("key/bias")  # which adds the same to all scores of a row
        np.testing.assert_allclose(np.asarray(gradients[name]), gradient, rtol=0, atol=2e-6, err_msg=name)
