"""Which examples each step reads: a pure function, so that resuming needs no reader state."""

import functools

import numpy as np


def batch_indices(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the examples of batch number `step`, int64 [batch_size].

    Epoch after epoch, every example comes once in an order of (seed, epoch); a batch may straddle epochs,
    so that no example is left out.
    """
    if num_examples < 1:
        raise ValueError("there are no examples to draw batches from")
    epochs, places = np.divmod(_places(batch_size, step), num_examples)
    batch = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        batch[here] = _epoch_order(num_examples, seed, epoch)[places[here]]
    return batch


def batch_epochs(num_examples: int, batch_size: int, step: int) -> np.ndarray:
    """The epoch, from 0, in which each example of batch number `step` comes, int64 [batch_size]."""
    return _places(batch_size, step) // num_examples


def _places(batch_size: int, step: int) -> np.ndarray:
    return np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)


@functools.lru_cache(maxsize=2)  # the current epoch and, in a straddling batch, the next
def _epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_examples)
