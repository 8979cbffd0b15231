"""AdamW as google-research/bert defines it: the schedule, clipping and one variable's update, as pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

Tensor = Any

BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-6
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
NO_DECAY = ("LayerNorm", "layer_norm", "bias")  # parts of names, as the original matches them


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `learning_rate`, then linear decay that reaches 0 at `num_train_steps`."""

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int


def learning_rate(schedule: Schedule, update: Tensor) -> Tensor:
    """The rate of the update with this number, float32; the first update is number 1.

    The decay counts from 0, so the rate drops a little where the warm-up ends, and the last update of a
    schedule moves nothing. Which number the original gives an update is a race between reading and
    raising its counter; counting from 1, so that the first update moves, is one of its outcomes.
    """
    number = ops.cast(update, "float32")
    warmup = schedule.learning_rate * number / max(schedule.num_warmup_steps, 1)
    # What is left is subtracted before it is divided: 1 - n / n may round to just below 0.
    left = ops.maximum(schedule.num_train_steps - number, 0.0) / schedule.num_train_steps
    return ops.where(number < schedule.num_warmup_steps, warmup, schedule.learning_rate * left)


def clip_by_global_norm(gradients: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Gradients scaled so that their joint norm is at most CLIP_NORM, and the norm before that."""
    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    scale = CLIP_NORM / ops.maximum(norm, CLIP_NORM)
    return [gradient * scale for gradient in gradients], norm


def adam_update(
    weight: Tensor, gradient: Tensor, adam_m: Tensor, adam_v: Tensor, rate: Tensor, *, decay: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """New weight, adam_m and adam_v. No bias correction; the decay is added to the step, not to the gradient."""
    adam_m = BETA_1 * adam_m + (1.0 - BETA_1) * gradient
    adam_v = BETA_2 * adam_v + (1.0 - BETA_2) * ops.square(gradient)
    direction = adam_m / (ops.sqrt(adam_v) + EPSILON)
    if decay:
        direction = direction + WEIGHT_DECAY * weight
    return weight - rate * direction, adam_m, adam_v


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to the variable: not to biases and layer normalisations."""
    return not any(part in name for part in NO_DECAY)
