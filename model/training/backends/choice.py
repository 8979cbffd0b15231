"""Which backend computes: Keras's, TensorFlow by default."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from bertline.model.bert import Tensor, Weights
from bertline.model.training.update import Update

Batch = Mapping[str, np.ndarray]


class Trainer(Protocol):
    """Weights and slots on some devices, and the compiled update of them."""

    def update(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """Do the update that follows `step` earlier ones; returns its metrics, scalars."""

    def updates(self, step: int, batches: Batch) -> Mapping[str, Tensor]:
        """Do an update on each of `batches`, [updates, batch, ...], in one call; returns their metrics, [updates]."""

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, float32."""

    def slots(self) -> dict[str, np.ndarray]:
        """The slots: adam_m and adam_v of every weight."""

    def forward(self, function: Callable[[Weights, Mapping[str, Tensor]], Any]) -> Callable[[Batch], Any]:
        """`function(weights, batch)` compiled once; every call computes with the weights of that moment.

        A batch's examples are a multiple of the devices.
        """


def trainer_of(weights: Batch, slots: Batch, update: Update, *, jit_compile: bool, devices: int) -> Trainer:
    """The trainer of the backend in use; ValueError for more devices than it has."""
    if in_use() == "jax":
        from bertline.model.training.backends.jax import JaxTrainer

        return JaxTrainer(weights, slots, update, devices=devices)
    from bertline.model.training.backends.tensorflow import TensorFlowTrainer

    if devices > 1:
        raise ValueError(f"devices is {devices}; several devices share a batch on the jax backend only")
    return TensorFlowTrainer(weights, slots, update, jit_compile=jit_compile)


def compiled_forward(
    function: Callable[[Weights, Mapping[str, Tensor]], Any], weights: Batch, *, jit_compile: bool
) -> Callable[[Batch], Any]:
    """`function(weights, batch)` compiled for a batch of every shape that comes; weights stay on the device."""
    if in_use() == "jax":
        import jax

        placed = {name: jax.device_put(array) for name, array in weights.items()}
        of_both = jax.jit(function)
        return lambda batch: of_both(placed, dict(batch))
    from bertline.model.training.backends.tensorflow import compiled, variables_of

    variables = variables_of(weights)
    forward: Callable[[Batch], Any] = compiled(lambda batch: function(variables, batch), jit_compile=jit_compile)
    return lambda batch: forward(dict(batch))


def in_use() -> str:
    """The backend that Keras has loaded."""
    import keras

    name: str = keras.backend.backend()
    return name
