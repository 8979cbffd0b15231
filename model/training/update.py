"""One update of all weights as a pure function: gradients summed over the parts of a batch, clipped, applied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras import ops

from bertline.model.bert import Tensor, Weights, in_precision
from bertline.model.dropout import Dropout
from bertline.model.training.optimizer import apply_gradients, learning_rate
from bertline.model.training.optimizer_config import Rule, Schedule

Batch = Mapping[str, Tensor]
Values = dict[str, Tensor]
# A function of weights whose "loss" is differentiated -> all its values, and the gradient of each weight.
ValuesAndGradients = Callable[[Callable[[Weights], Values], Weights], tuple[Values, Values]]


@dataclass(frozen=True)
class Objective:
    """What is minimised, so that a batch can be cut into parts: their losses add up to the batch's."""

    # Of a whole batch: what its losses are divided by.
    whole: Callable[[Batch], Values]
    # (weights, part, whole, dropout) -> losses, of which "loss" is minimised
    losses: Callable[[Weights, Batch, Values, Dropout], Values]


@dataclass(frozen=True)
class Update:
    """Everything that decides how a batch moves the weights."""

    objective: Objective
    schedule: Schedule
    rule: Rule = field(default_factory=Rule)
    seed: int = 0  # of dropout
    precision: str = "float32"  # of the computation; weights, slots and gradients' sums are float32
    parts: int = 1  # pieces of a batch that are computed one after the other, to need less memory


def updated(
    update: Update,
    values_and_gradients: ValuesAndGradients,
    weights: Weights,
    slots: Weights,
    step: Tensor,
    batch: Batch,
) -> tuple[Values, Values, Values]:
    """Weights and slots after the update that follows `step` earlier ones, and its metrics.

    The metrics are the losses, learning_rate and grad_norm. The batch's examples are a multiple of `update.parts`.
    """
    losses, gradients = losses_and_gradients(update, values_and_gradients, weights, step, batch)
    new_weights, new_slots, metrics = moved(update, weights, slots, gradients, step)
    return new_weights, new_slots, {**losses, **metrics}


def moved(
    update: Update, weights: Weights, slots: Weights, gradients: Values, step: Tensor
) -> tuple[Values, Values, Values]:
    """Weights and slots that the float32 gradients have moved, the learning_rate and the grad_norm."""
    rate = learning_rate(update.schedule, step + 1)
    new_weights, new_slots, norm = apply_gradients(update.rule, weights, slots, gradients, rate, step + 1)
    return new_weights, new_slots, {"learning_rate": rate, "grad_norm": norm}


def losses_and_gradients(
    update: Update, values_and_gradients: ValuesAndGradients, weights: Weights, step: Tensor, batch: Batch
) -> tuple[Values, Values]:
    """The losses and float32 gradients of a batch, part by part."""
    weights = in_precision(weights, update.precision)
    whole = update.objective.whole(batch)
    count = next(iter(batch.values())).shape[0]
    numbers = ops.arange(count, dtype="int32")

    def of_part(part: Batch, examples: Tensor) -> tuple[Values, Values]:
        dropout = Dropout(update.seed, step, examples)
        losses, gradients = values_and_gradients(
            lambda weights: update.objective.losses(weights, part, whole, dropout), weights
        )
        return losses, {name: ops.cast(gradient, "float32") for name, gradient in gradients.items()}

    if update.parts == 1:
        return of_part(batch, numbers)
    # Part p holds the examples p, p + parts, p + 2 * parts ...: each device of several has its share of every part.
    columns = {name: ops.reshape(values, (-1, update.parts, *values.shape[1:])) for name, values in batch.items()}
    numbers = ops.reshape(numbers, (-1, update.parts))

    def add(part: Tensor, sums: tuple[Values, Values]) -> tuple[Values, Values]:
        taken = {name: ops.take(values, part, axis=1) for name, values in columns.items()}
        found = of_part(taken, ops.take(numbers, part, axis=1))
        return _added(sums[0], found[0]), _added(sums[1], found[1])

    first = of_part({name: values[:, 0] for name, values in columns.items()}, numbers[:, 0])
    summed: tuple[Values, Values] = ops.fori_loop(1, update.parts, add, first)
    return summed


def _added(some: Values, more: Values) -> dict[str, Any]:
    return {name: value + more[name] for name, value in some.items()}
