"""How gradients move weights: schedule, clipping and one variable's update, as pure functions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from bertline.model.training.optimizer_config import ADAMW, BERT_ADAM, LAMB, ORIGINAL_DECAY, Rule, Schedule

Tensor = Any
Tensors = Mapping[str, Tensor]

ADAM_M, ADAM_V = "/adam_m", "/adam_v"  # suffixes of the slots' names, as in the original's checkpoints
NO_DECAY = ("LayerNorm", "layer_norm", "bias")  # parts of names, as the original matches them


def learning_rate(schedule: Schedule, update: Tensor) -> Tensor:
    """The rate of the update with this number, float32; the first update is number 1.

    Decay as in the original counts from 0, so the rate drops a little where the warm-up ends; "linear" falls from
    the peak. Either way the last update of a schedule moves nothing. Which number the original gives an update is
    a race between reading and raising its counter; counting from 1, so that the first update moves, is one of its
    outcomes.
    """
    number = ops.cast(update, "float32")
    total, warmup = schedule.num_train_steps, schedule.num_warmup_steps
    rising = schedule.learning_rate * number / max(warmup, 1)
    length = total if schedule.decay == ORIGINAL_DECAY else max(total - warmup, 1)
    # What is left is subtracted before it is divided: 1 - n / n may round to just below 0.
    left = ops.maximum(total - number, 0.0) / length
    return ops.where(number < warmup, rising, schedule.learning_rate * left)


def apply_gradients(
    rule: Rule, weights: Tensors, slots: Tensors, gradients: Tensors, rate: Tensor, update: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """New weights and slots, and the gradients' joint norm before it was clipped.

    `update` is the number of the update, from 1; float32 gradients are wanted under every precision.
    """
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
    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    scale = clip_norm / ops.maximum(norm, clip_norm)
    return [gradient * scale for gradient in gradients], norm


def is_decayed(name: str) -> bool:
    """Whether weight decay, and LAMB's layer-wise rate, apply: not to biases and layer normalisations."""
    return not any(part in name for part in NO_DECAY)


def _direction(rule: Rule, name: str, weight: Tensor, adam_m: Tensor, adam_v: Tensor, update: Tensor) -> Tensor:
    """What a weight moves against; the decay is added here and not to the gradient."""
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
    if base == 0.0:
        return 1.0
    return -ops.expm1(ops.cast(exponent, "float32") * math.log(base))


def _trust(weight: Tensor, direction: Tensor) -> Tensor:
    """LAMB's rate of one variable: the ratio of the norms, 1 where one of them is 0."""
    of_weight, of_direction = (ops.sqrt(ops.sum(ops.square(each))) for each in (weight, direction))
    known = ops.logical_and(of_weight > 0.0, of_direction > 0.0)
    return ops.where(known, of_weight / ops.where(known, of_direction, 1.0), 1.0)
