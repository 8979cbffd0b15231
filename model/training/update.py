"""How a batch moves the weights: gradients summed over micro-batches, the optimizers and schedules to choose from.

All of it is pure functions. Keras is imported late: settings are checked without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertline.model.bert import Dropout, Tensor, Weights

Values = dict[str, Any]  # tensors by name
# A function of weights whose "loss" is differentiated -> all its values, and the gradient of each weight.
ValuesAndGradients = Callable[[Callable[["Weights"], Values], "Weights"], tuple[Values, Values]]

BERT_ADAM, ADAMW, LAMB = "bert_adam", "adamw", "lamb"
OPTIMIZERS = (BERT_ADAM, ADAMW, LAMB)
ORIGINAL_DECAY, LINEAR_DECAY = "original", "linear"
DECAYS = (ORIGINAL_DECAY, LINEAR_DECAY)
ADAM_M, ADAM_V = "/adam_m", "/adam_v"  # suffixes of the slots' names, as in the original's checkpoints
NO_DECAY = ("LayerNorm", "layer_norm", "bias")  # parts of names, as the original matches them


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `learning_rate`, then linear decay that reaches 0 at `num_train_steps`."""

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int
    decay: str = ORIGINAL_DECAY  # counts from step 0, as google-research/bert; linear: from the end of the warm-up

    def __post_init__(self) -> None:
        """Refuse an unknown decay."""
        if self.decay not in DECAYS:
            raise ValueError(f'learning_rate_decay is "{self.decay}"; known: {", ".join(DECAYS)}')


@dataclass(frozen=True)
class Rule:
    """How a gradient moves a variable; defaults are google-research/bert's optimization.py.

    bert_adam is AdamW without bias correction; adamw is Loshchilov and Hutter 2019, with it; lamb is You et al.
    2019, algorithm 2.
    """

    name: str = BERT_ADAM
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rules that cannot work."""
        if self.name not in OPTIMIZERS:
            raise ValueError(f'optimizer is "{self.name}"; known: {", ".join(OPTIMIZERS)}')
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must be at least 0")
        for name in ("epsilon", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class Objective:
    """What is minimised, so that a batch can be cut into micro-batches: their losses add up to the batch's."""

    # Of a whole batch: what its losses are divided by.
    whole: Callable[[Mapping[str, Tensor]], Values]
    # (weights, micro-batch, whole, dropout) -> losses, of which "loss" is minimised
    losses: Callable[[Weights, Mapping[str, Tensor], Values, Dropout], Values]


@dataclass(frozen=True)
class Update:
    """Everything that decides how a batch moves the weights."""

    objective: Objective
    schedule: Schedule
    rule: Rule = field(default_factory=Rule)
    seed: int = 0  # of dropout
    precision: str = "float32"  # of the computation; weights, slots and gradients' sums are float32
    micro_batches: int = 1  # of a batch, computed one after the other to need less memory


def compute_update(
    update: Update,
    values_and_gradients: ValuesAndGradients,
    weights: Weights,
    slots: Weights,
    step: Tensor,
    batch: Mapping[str, Tensor],
) -> tuple[Values, Values, Values]:
    """Weights and slots after the update that follows `step` earlier ones, and its metrics.

    The metrics are the losses, learning_rate and grad_norm. The batch's examples are a multiple of the micro-batches.
    """
    losses, gradients = losses_and_gradients(update, values_and_gradients, weights, step, batch)
    new_weights, new_slots, metrics = move_weights(update, weights, slots, gradients, step)
    return new_weights, new_slots, {**losses, **metrics}


def move_weights(
    update: Update, weights: Weights, slots: Weights, gradients: Values, step: Tensor
) -> tuple[Values, Values, Values]:
    """Weights and slots that the float32 gradients have moved, the learning_rate and the grad_norm."""
    rate = learning_rate(update.schedule, step + 1)
    new_weights, new_slots, norm = apply_gradients(update.rule, weights, slots, gradients, rate, step + 1)
    return new_weights, new_slots, {"learning_rate": rate, "grad_norm": norm}


def losses_and_gradients(
    update: Update,
    values_and_gradients: ValuesAndGradients,
    weights: Weights,
    step: Tensor,
    batch: Mapping[str, Tensor],
) -> tuple[Values, Values]:
    """The losses and float32 gradients of a batch, micro-batch by micro-batch."""
    from keras import ops

    from bertline.model.bert import Dropout, in_precision

    weights = in_precision(weights, update.precision)
    whole = update.objective.whole(batch)
    count = next(iter(batch.values())).shape[0]
    numbers = ops.arange(count, dtype="int32")

    def of_micro_batch(micro_batch: Mapping[str, Tensor], examples: Tensor) -> tuple[Values, Values]:
        dropout = Dropout(update.seed, step, examples)
        losses, gradients = values_and_gradients(
            lambda weights: update.objective.losses(weights, micro_batch, whole, dropout), weights
        )
        return losses, {name: ops.cast(gradient, "float32") for name, gradient in gradients.items()}

    if update.micro_batches == 1:
        return of_micro_batch(batch, numbers)
    # Of n micro-batches, number m has the examples m, m + n, m + 2 * n ...: each device has its share of every one.
    micro_batches = update.micro_batches
    columns = {name: ops.reshape(values, (-1, micro_batches, *values.shape[1:])) for name, values in batch.items()}
    numbers = ops.reshape(numbers, (-1, micro_batches))

    def add(number: Tensor, sums: tuple[Values, Values]) -> tuple[Values, Values]:
        taken = {name: ops.take(values, number, axis=1) for name, values in columns.items()}
        found = of_micro_batch(taken, ops.take(numbers, number, axis=1))
        return _add(sums[0], found[0]), _add(sums[1], found[1])

    first = of_micro_batch({name: values[:, 0] for name, values in columns.items()}, numbers[:, 0])
    summed: tuple[Values, Values] = ops.fori_loop(1, micro_batches, add, first)
    return summed


def _add(some: Values, more: Values) -> dict[str, Any]:
    return {name: value + more[name] for name, value in some.items()}


def learning_rate(schedule: Schedule, update: Tensor) -> Tensor:
    """The rate of the update with this number, float32; the first update is number 1.

    Decay as in the original counts from 0, so the rate drops a little where the warm-up ends; "linear" falls from
    the peak. Either way the last update of a schedule moves nothing. Which number the original gives an update is
    a race between reading and raising its counter; counting from 1, so that the first update moves, is one of its
    outcomes.
    """
    from keras import ops

    number = ops.cast(update, "float32")
    total, warmup = schedule.num_train_steps, schedule.num_warmup_steps
    rising = schedule.learning_rate * number / max(warmup, 1)
    length = total if schedule.decay == ORIGINAL_DECAY else max(total - warmup, 1)
    # What is left is subtracted before it is divided: 1 - n / n may round to just below 0.
    left = ops.maximum(total - number, 0.0) / length
    return ops.where(number < warmup, rising, schedule.learning_rate * left)


def apply_gradients(
    rule: Rule, weights: Weights, slots: Weights, gradients: Weights, rate: Tensor, update: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """New weights and slots, and the gradients' joint norm before it was clipped.

    `update` is the number of the update, from 1; float32 gradients are wanted under every precision.
    """
    from keras import ops

    clipped, norm = clip_by_global_norm([gradients[name] for name in weights], rule.clip_norm)
    new_weights: dict[str, Tensor] = {}
    new_slots: dict[str, Tensor] = {}
    for (name, weight), gradient in zip(weights.items(), clipped, strict=True):
        adam_m = rule.beta_1 * slots[name + ADAM_M] + (1.0 - rule.beta_1) * gradient
        adam_v = rule.beta_2 * slots[name + ADAM_V] + (1.0 - rule.beta_2) * ops.square(gradient)
        new_slots |= {name + ADAM_M: adam_m, name + ADAM_V: adam_v}
        new_weights[name] = weight - rate * _direction(rule, name, weight, adam_m, adam_v, update)
    return new_weights, new_slots, norm


def clip_by_global_norm(gradients: Sequence[Tensor], clip_norm: float) -> tuple[list[Tensor], Tensor]:
    """Gradients scaled so that their joint norm is at most `clip_norm`, and the norm before that."""
    from keras import ops

    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    scale = clip_norm / ops.maximum(norm, clip_norm)
    return [gradient * scale for gradient in gradients], norm


def is_decayed(name: str) -> bool:
    """Whether weight decay, and LAMB's layer-wise rate, apply: not to biases and layer normalisations."""
    return not any(part in name for part in NO_DECAY)


def _direction(rule: Rule, name: str, weight: Tensor, adam_m: Tensor, adam_v: Tensor, update: Tensor) -> Tensor:
    """What a weight moves against; the decay is added here and not to the gradient."""
    from keras import ops

    if rule.name in (ADAMW, LAMB):  # the original leaves the slots biased towards their start at zero
        adam_m = adam_m / _one_minus_power(rule.beta_1, update)
        adam_v = adam_v / _one_minus_power(rule.beta_2, update)
    else:
        assert rule.name == BERT_ADAM
    direction = adam_m / (ops.sqrt(adam_v) + rule.epsilon)
    if not is_decayed(name):
        return direction
    direction = direction + rule.weight_decay * weight
    return direction * _trust(weight, direction) if rule.name == LAMB else direction


def _one_minus_power(base: float, exponent: Tensor) -> Tensor:
    """1 - base**exponent, without the digits that a difference of two numbers near 1 would lose."""
    from keras import ops

    if base == 0.0:
        return 1.0
    return -ops.expm1(ops.cast(exponent, "float32") * math.log(base))


def _trust(weight: Tensor, direction: Tensor) -> Tensor:
    """LAMB's rate of one variable: the ratio of the norms, 1 where one of them is 0."""
    from keras import ops

    of_weight, of_direction = (ops.sqrt(ops.sum(ops.square(each))) for each in (weight, direction))
    known = ops.logical_and(of_weight > 0.0, of_direction > 0.0)
    return ops.where(known, of_weight / ops.where(known, of_direction, 1.0), 1.0)
