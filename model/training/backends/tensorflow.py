"""Training on the TensorFlow backend: weights in variables, the update as a graph or compiled by XLA."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bertline.model.bert import Tensor, Weights
from bertline.model.training.update import Update, Values, losses_and_gradients, move_weights

Arrays = dict[str, np.ndarray]
# Up to so many, an optimizer's passes over the parameters take less time than to compile them into one.
FEW_PARAMETERS = 1 << 20


class TensorFlowTrainer:
    """Weights and slots, and the compiled update of them."""

    def __init__(
        self, weights: Mapping[str, np.ndarray], slots: Mapping[str, np.ndarray], update: Update, *, jit_compile: bool
    ) -> None:
        """Start from `weights` and `slots`, by name in a fixed order: the norm's sum depends on it."""
        self._weights, self._slots = variables_of(weights), variables_of(slots)
        self._rule, self._jit_compile = update, jit_compile
        self._compiles_move = jit_compile or sum(array.size for array in weights.values()) > FEW_PARAMETERS
        self._update = compile_graph(self._trace_update, jit_compile=jit_compile)
        self._updates = compile_graph(self._trace_updates, jit_compile=jit_compile)

    def update(self, step: int, batch: Mapping[str, np.ndarray]) -> Mapping[str, Tensor]:
        """Do the update that follows `step` earlier ones; returns its metrics, scalars."""
        metrics: Mapping[str, Tensor] = self._update(tf.constant(step, tf.int64), dict(batch))
        return metrics

    def updates(self, step: int, batches: Mapping[str, np.ndarray]) -> Mapping[str, Tensor]:
        """Do an update on each of `batches`, [updates, batch, ...], in one call; returns their metrics, [updates]."""
        metrics: Mapping[str, Tensor] = self._updates(tf.constant(step, tf.int64), dict(batches))
        return metrics

    def weights(self) -> Arrays:
        """The weights by name, float32."""
        return arrays_of(self._weights)

    def slots(self) -> Arrays:
        """The slots: adam_m and adam_v of every weight."""
        return arrays_of(self._slots)

    def forward(
        self, function: Callable[[Weights, Mapping[str, Tensor]], Any]
    ) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """`function(weights, batch)` compiled once; every call computes with the weights of that moment."""
        of_batch = compile_graph(lambda batch: function(self._weights, batch), jit_compile=self._jit_compile)
        return lambda batch: of_batch(dict(batch))

    def _trace_update(self, step: Tensor, batch: Mapping[str, Tensor]) -> Values:
        weights = {name: tf.convert_to_tensor(variable) for name, variable in self._weights.items()}
        losses, gradients = losses_and_gradients(self._rule, values_and_gradients, weights, step, batch)
        # By XLA also within a graph: one pass over the variables, in place, instead of one for each operation.
        move = compile_graph(self._move, jit_compile=True) if self._compiles_move else self._move
        return {**losses, **move(gradients, step)}

    def _move(self, gradients: Values, step: Tensor) -> Values:
        weights, slots = (
            {name: tf.convert_to_tensor(variable) for name, variable in variables.items()}
            for variables in (self._weights, self._slots)
        )
        *after, metrics = move_weights(self._rule, weights, slots, gradients, step)
        for variables, values in zip((self._weights, self._slots), after, strict=True):
            for name, variable in variables.items():
                variable.assign(values[name])
        return metrics

    def _trace_updates(self, step: Tensor, batches: Mapping[str, Tensor]) -> Values:
        count = next(iter(batches.values())).shape[0]
        one = compile_graph(
            self._trace_update, jit_compile=False
        )  # traced once, though its metrics must be known before the loop

        def add(number: Tensor, rows: Values) -> tuple[Tensor, Values]:
            metrics = one(
                step + tf.cast(number, step.dtype), {name: values[number] for name, values in batches.items()}
            )
            return number + 1, {
                name: tf.tensor_scatter_nd_update(row, [[number]], [metrics[name]]) for name, row in rows.items()
            }

        metrics = one.get_concrete_function(step, {name: values[0] for name, values in batches.items()})
        rows = {name: tf.zeros([count], metric.dtype) for name, metric in metrics.structured_outputs.items()}
        return tf.while_loop(lambda number, _: number < count, add, (0, rows), parallel_iterations=1)[1]


def values_and_gradients(function: Callable[[Weights], Values], weights: Weights) -> tuple[Values, Values]:
    """The function's values, and the gradient of its "loss" for every weight; 0 for one without influence."""
    names = list(weights)
    tensors = [tf.convert_to_tensor(weights[name]) for name in names]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        values = function(dict(zip(names, tensors, strict=True)))
    gradients = tape.gradient(values["loss"], tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # The gradient of an embedding lookup is sparse; the update needs every row.
    return values, {name: tf.convert_to_tensor(gradient) for name, gradient in zip(names, gradients, strict=True)}


def compile_graph(function: Callable[..., Any], *, jit_compile: bool) -> Any:
    """The function as a TensorFlow graph, traced once for each shape of its inputs; by XLA when asked for."""
    return tf.function(function, jit_compile=jit_compile, autograph=False)


def variables_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Variable]:
    """TensorFlow variables by name; compiled functions take them without copying them into their graph."""
    return {name: tf.Variable(array) for name, array in arrays.items()}


def arrays_of(variables: Mapping[str, tf.Variable]) -> Arrays:
    """The variables' values."""
    return {name: variable.numpy() for name, variable in variables.items()}
