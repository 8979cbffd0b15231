"""The one training loop: a compiled step, batches read ahead, and a stop when the loss is no number."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from bertline.model.bert import Tensor, Weights, in_precision
from bertline.model.dropout import Dropout
from bertline.model.optimizer import Schedule, adam_update, clip_by_global_norm, is_decayed, learning_rate
from bertline.model.progress import Progress

Arrays = dict[str, np.ndarray]
Losses = Callable[[Weights, Mapping[str, Tensor], Dropout], dict[str, Tensor]]  # the key "loss" is minimised

ADAM_M, ADAM_V = "/adam_m", "/adam_v"  # suffixes of the slots' names, as in the original's checkpoints


class Trainer:
    """Weights and Adam slots in TensorFlow variables, and the compiled update of them."""

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        slots: Mapping[str, np.ndarray] | None,
        losses: Losses,
        schedule: Schedule,
        *,
        seed: int,
        precision: str,
        jit_compile: bool,
    ) -> None:
        """Start from `weights` (by name), with the Adam slots of an earlier run or, without, from zero."""
        if slots is None:
            slots = {name + slot: np.zeros_like(w) for name, w in weights.items() for slot in (ADAM_M, ADAM_V)}
        # A fixed order: the norm's sum depends on it, and files give the weights back in an order of their own.
        self._weights = variables_of({name: weights[name] for name in sorted(weights)})
        self._slots = variables_of(slots)
        self._losses, self._schedule, self._precision, self._seed = losses, schedule, precision, seed
        self._update = compiled(self._traced_update, jit_compile=jit_compile)

    def update(self, step: int, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Do the update that follows `step` earlier ones; returns losses, learning_rate and grad_norm."""
        metrics = self._update(tf.constant(step, tf.int64), dict(batch))
        return {name: float(value) for name, value in metrics.items()}

    def weights(self) -> Arrays:
        """The weights by name, float32."""
        return arrays_of(self._weights)

    def slots(self) -> Arrays:
        """The Adam slots: adam_m and adam_v of every weight."""
        return arrays_of(self._slots)

    def _traced_update(self, step: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        dropout = Dropout(self._seed, step)
        with tf.GradientTape() as tape:
            losses = self._losses(in_precision(self._weights, self._precision), batch, dropout)
        gradients = tape.gradient(losses["loss"], list(self._weights.values()))
        # The gradient of an embedding lookup is sparse; the update needs every row.
        clipped, norm = clip_by_global_norm([tf.convert_to_tensor(gradient) for gradient in gradients])
        rate = learning_rate(self._schedule, step + 1)
        for name, gradient in zip(self._weights, clipped, strict=True):
            self._apply(name, gradient, rate)
        return {**losses, "learning_rate": rate, "grad_norm": norm}

    def _apply(self, name: str, gradient: Tensor, rate: Tensor) -> None:
        variables = (self._weights[name], self._slots[name + ADAM_M], self._slots[name + ADAM_V])
        weight, adam_m, adam_v = variables
        updated = adam_update(weight, gradient, adam_m, adam_v, rate, decay=is_decayed(name))
        for variable, value in zip(variables, updated, strict=True):
            variable.assign(value)


def train(
    trainer: Trainer,
    batch_at: Callable[[int], Mapping[str, np.ndarray]],
    after_update: Callable[[int, dict[str, float]], None],
    *,
    start_step: int,
    stop_step: int,
    label: str,
) -> None:
    """Run the updates from `start_step` up to `stop_step`.

    `batch_at(step)` gives the batch of a step and runs in a thread, one step ahead; `after_update` gets the
    number of updates done and their latest metrics. Raises ValueError at a loss that is no number.
    """
    with Progress(label, stop_step, "steps", done=start_step) as progress, ThreadPoolExecutor(1) as reader:
        coming = reader.submit(batch_at, start_step)
        for step in range(start_step, stop_step):
            batch = coming.result()
            if step + 1 < stop_step:
                coming = reader.submit(batch_at, step + 1)
            metrics = trainer.update(step, batch)
            _refuse_non_finite(step, metrics)
            after_update(step + 1, metrics)
            progress.advance(1, loss=metrics["loss"], learning_rate=metrics["learning_rate"])


def compiled(function: Callable[..., Any], *, jit_compile: bool) -> Callable[..., Any]:
    """The function as a TensorFlow graph, traced once for each shape of its inputs; by XLA when asked for."""
    return tf.function(function, jit_compile=jit_compile, autograph=False)


def variables_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Variable]:
    """TensorFlow variables by name; compiled functions take them without copying them into their graph."""
    return {name: tf.Variable(array) for name, array in arrays.items()}


def arrays_of(variables: Mapping[str, tf.Variable]) -> Arrays:
    """The variables' values."""
    return {name: variable.numpy() for name, variable in variables.items()}


def _refuse_non_finite(step: int, metrics: Mapping[str, float]) -> None:
    if math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]):
        return
    raise ValueError(
        f"step {step + 1}: loss is {metrics['loss']}, gradient norm {metrics['grad_norm']}, learning rate "
        f"{metrics['learning_rate']:.3g}; lower learning_rate or raise num_warmup_steps"
    )
