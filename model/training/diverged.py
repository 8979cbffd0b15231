"""A step whose loss is not finite: the error that ends the training, and what is kept of the step to look at."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bertline.model.training.checkpoint import Arrays, write_file

BATCH_FILE, METRICS_FILE = "batch.npz", "metrics.json"


class DivergedError(ValueError):
    """A loss or gradient norm that is not finite; the weights are worthless from `step` on."""

    def __init__(self, step: int, metrics: Mapping[str, float], kept: Path | None = None) -> None:
        """`step` counts updates from 0; `kept` is the folder of `keep_step`."""
        where = f"; the batch and the figures of the step are in {kept}" if kept else ""
        super().__init__(
            f"step {step + 1}: loss is {metrics['loss']}, gradient norm {metrics['grad_norm']}, learning rate "
            f"{metrics['learning_rate']:.3g}; lower learning_rate or lengthen the warm-up{where}"
        )
        self.step = step


def keep_step(work: Path, step: int, metrics: Mapping[str, float], batch: Arrays, records: np.ndarray) -> Path:
    """Write the step's batch, the numbers of its records and its metrics into a folder in `work`, and return that."""
    folder = work / f"failed-step-{step + 1:09}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / BATCH_FILE, **dict(batch))  # type: ignore[arg-type]
    numbers = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
    found = {"step": step + 1, **numbers, "records": records.tolist()}
    write_file(folder / METRICS_FILE, (json.dumps(found, indent=2) + "\n").encode())
    return folder
