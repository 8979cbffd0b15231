"""A side of training.py: bertline's own update of a pretraining step, as run_pretraining makes it."""

import json
import sys
from typing import Any

from turns import random_batches, take_turns


def main(job: dict[str, Any]) -> None:
    """Take turns with the job's shape, precision, jit_compile and recompute_layers."""
    from bertline.model.training.backends.choice import use_backend

    use_backend(job.get("backend", "tensorflow"))
    from bertline.model.bert import initial_weights
    from bertline.model.config import BertConfig, pretraining_shapes
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.training.backends.choice import new_trainer
    from bertline.model.training.update import Objective, Schedule, Update

    config = BertConfig(**job["config"])

    def losses(weights: Any, part: Any, whole: Any, dropout: Any) -> Any:
        return pretraining_losses(weights, config, part, whole, dropout, job["recompute_layers"])

    update = Update(Objective(pretraining_whole, losses), Schedule(1e-4, 100_000, 100), precision=job["precision"])
    weights = initial_weights(pretraining_shapes(config), config.initializer_range, seed=1)
    trainer = new_trainer(weights, None, update, jit_compile=job["jit_compile"])
    del weights
    batches = random_batches(job)
    take_turns(lambda step: float(trainer.update(step, batches[step % len(batches)])["loss"]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
