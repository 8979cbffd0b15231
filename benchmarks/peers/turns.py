"""What the processes of training.py share: a side is told "go 3", does three steps and answers their seconds.

Only NumPy is needed, so that it runs under the Python of every side.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

BATCHES = 4  # different ones, in rotation
SHORTEST = 0.4  # of the length; rows are filled from there to 1, so 30 % is padding
MASKED = 0.15  # of the tokens, up to max_predictions
CLS, SEP, FIRST_WORD = 101, 102, 1000  # ids of the released vocabulary


def random_batches(job: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Batches as open_records gives them, the same for all sides: random words, rows of realistic lengths."""
    return [random_batch(job, np.random.default_rng(seed)) for seed in range(BATCHES)]


def random_batch(job: Mapping[str, Any], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """One of them: int32 or float32, [batch, length] and [batch, predictions]."""
    batch, length, predictions = job["batch"], job["length"], job["predictions"]
    lengths = generator.integers(round(SHORTEST * length), length + 1, batch)
    first = generator.integers(2, lengths - 2)  # where A's [SEP] stands
    column = np.arange(length)
    used = column < lengths[:, None]
    ids = generator.integers(FIRST_WORD, job["vocab_size"], (batch, length))
    ids[:, 0] = CLS
    ids[np.arange(batch), first] = ids[np.arange(batch), lengths - 1] = SEP
    # The words of a row in random order, those of its first places masked.
    order = np.argsort(np.where(used & (ids >= FIRST_WORD), generator.random((batch, length)), 2.0), axis=1)
    count = np.minimum(np.maximum(1, np.round(MASKED * lengths)), np.minimum(predictions, lengths - 3))
    kept = np.arange(predictions) < count[:, None]
    positions = np.where(kept, order[:, :predictions], length)
    positions.sort(axis=1)
    positions[~kept] = 0
    return {
        "input_ids": (ids * used).astype(np.int32),
        "input_mask": used.astype(np.int32),
        "segment_ids": (used & (column > first[:, None])).astype(np.int32),
        "masked_lm_positions": positions.astype(np.int32),
        "masked_lm_ids": (np.take_along_axis(ids, positions, axis=1) * kept).astype(np.int32),
        "masked_lm_weights": kept.astype(np.float32),
        "next_sentence_labels": generator.integers(0, 2, batch).astype(np.int32),
    }


def take_turns(step: Callable[[int], float]) -> None:
    """Do what the lines of the standard input ask for until it ends; `step(number)` returns the step's loss."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the errors
    print("ready", file=answers)
    done = 0
    for line in sys.stdin:
        steps = int(line.removeprefix("go "))
        began = time.perf_counter()
        for number in range(done, done + steps):
            loss = step(number)
        seconds = time.perf_counter() - began
        done += steps
        print(f"{seconds} {loss}", file=answers)
