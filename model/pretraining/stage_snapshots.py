"""What a snapshot of a pretraining stage holds, and what is kept of a step that diverged."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.training.checkpoint import STATE_FILE, Checkpoint, read_checkpoint, write_checkpoint, write_file
from bertline.model.training.curve import TrainingLog, rows_of

LOG_FILE = "training_log.jsonl"
BATCH_FILE, METRICS_FILE = "batch.npz", "metrics.json"  # of a step that diverged


def snapshot_writer(checkpoint: Checkpoint, log: TrainingLog, identity: Mapping[str, Any]) -> Callable[[Path], None]:
    """A function that fills a folder with the training's state as it is now, however long it waits for its turn."""
    lines = log.to_lines()
    state = {**checkpoint.state, "stage": identity, "pending": list(log.pending)}

    def write(folder: Path) -> None:
        write_checkpoint(folder, dataclasses.replace(checkpoint, state=state))
        write_log(folder, lines)

    return write


def read_snapshot(folder: Path) -> tuple[Checkpoint, TrainingLog]:
    """The state that `snapshot_writer` wrote; FileNotFoundError or ValueError for a missing, cut or foreign file."""
    checkpoint = read_checkpoint(folder, with_slots=True)
    rows = rows_of((folder / LOG_FILE).read_text(encoding="utf-8"))
    try:
        log_every_steps, pending = checkpoint.state["stage"]["log_every_steps"], checkpoint.state["pending"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / STATE_FILE}: not of a training that goes on ({error})") from error
    return checkpoint, TrainingLog(log_every_steps, rows, pending)


def write_log(folder: Path, lines: str) -> None:
    """The curve so far, beside a checkpoint."""
    write_file(folder / LOG_FILE, lines.encode())


def save_failed_step(
    work: Path, step: int, metrics: Mapping[str, float], batch: Mapping[str, np.ndarray], records: np.ndarray
) -> Path:
    """Keep what diverged in the update after `step` ones, and the numbers of the batch's `records`; returns the folder.

    Its batch.npz holds the batch, its metrics.json the losses, gradient norm and learning rate, and the numbers.
    """
    folder = work / f"failed-step-{step + 1:09}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / BATCH_FILE, **dict(batch))  # type: ignore[arg-type]
    numbers = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
    found = {"step": step + 1, **numbers, "records": records.tolist()}
    write_file(folder / METRICS_FILE, (json.dumps(found, indent=2) + "\n").encode())
    return folder
