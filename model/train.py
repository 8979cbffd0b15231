"""The one training loop: batches read ahead, and a stop when the loss is no number."""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bertline.model.backends.choice import Trainer, trainer_of
from bertline.model.optimizer import ADAM_M, ADAM_V
from bertline.model.progress import Progress
from bertline.model.rates import Rates
from bertline.model.update import Update


def new_trainer(
    weights: Mapping[str, np.ndarray],
    slots: Mapping[str, np.ndarray] | None,
    update: Update,
    *,
    jit_compile: bool,
    devices: int = 1,
) -> Trainer:
    """A trainer of `weights` (by name), with the slots of an earlier run or, without, from zero."""
    if slots is None:
        slots = {name + slot: np.zeros_like(w) for name, w in weights.items() for slot in (ADAM_M, ADAM_V)}
    # A fixed order: the norm's sum depends on it, and files give the weights back in an order of their own.
    ordered = {name: weights[name] for name in sorted(weights)}
    return trainer_of(ordered, slots, update, jit_compile=jit_compile, devices=devices)


def train(
    trainer: Trainer,
    batch_at: Callable[[int], Mapping[str, np.ndarray]],
    after_update: Callable[[int, dict[str, float]], None],
    *,
    start_step: int,
    stop_step: int,
    label: str,
    rates: Rates | None = None,
) -> None:
    """Run the updates from `start_step` up to `stop_step`.

    `batch_at(step)` gives the batch of a step and runs in a thread, one step ahead; `after_update` gets the
    number of updates done and their latest metrics; `rates` counts no time that it takes. Raises ValueError at a
    loss that is no number.
    """
    with Progress(label, stop_step, "steps", done=start_step) as progress, ThreadPoolExecutor(1) as reader:
        coming = reader.submit(batch_at, start_step)
        began = time.perf_counter()
        for step in range(start_step, stop_step):
            batch = coming.result()
            if step + 1 < stop_step:
                coming = reader.submit(batch_at, step + 1)
            metrics = {name: float(value) for name, value in trainer.update(step, batch).items()}
            _refuse_non_finite(step, metrics)
            if rates is not None:
                rates.add(time.perf_counter() - began)
            after_update(step + 1, metrics)
            began = time.perf_counter()
            shown = rates.facts() if rates is not None else {}
            progress.advance(1, loss=metrics["loss"], learning_rate=metrics["learning_rate"], **shown)


def _refuse_non_finite(step: int, metrics: Mapping[str, float]) -> None:
    if math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]):
        return
    raise ValueError(
        f"step {step + 1}: loss is {metrics['loss']}, gradient norm {metrics['grad_norm']}, learning rate "
        f"{metrics['learning_rate']:.3g}; lower learning_rate or raise num_warmup_steps"
    )
