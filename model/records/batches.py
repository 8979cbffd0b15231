"""Which examples each step reads: pure functions, so that resuming needs no reader state."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bertline.model.records.reader import Records


def training_batch(
    records: "Records", batch_size: int, seed: int, step: int, host: int = 0, hosts: int = 1
) -> dict[str, NDArray[Any]]:
    """The batch of a step as `Records.batch` has it, or a host's share of its rows.

    It is as wide as the widest length bin among its examples, on all hosts; unmasked records get other masks in
    each epoch.
    """
    indices = batch_indices(records.bin_sizes, batch_size, seed, step)
    epochs = batch_epochs(len(records), batch_size, step)
    share = host_share(batch_size, host, hosts)
    return records.batch(indices[share], epochs[share], records.shape_of(indices))


def batch_indices(bin_sizes: int | Sequence[int], batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Indices of the examples of batch number `step`, int64 [batch_size].

    Epoch after epoch, every example comes once in an order of (seed, epoch); a batch may straddle epochs,
    so that no example is left out. `bin_sizes` is the number of examples or, ascending by width, of those of each
    length bin, which are numbered through. Then batches are of one bin each, bins mixed, but for what is left over:
    of each bin fewer than a batch, put together by width. An epoch has fewer such batches than bins, and one that
    straddles.
    """
    sizes = (bin_sizes,) if isinstance(bin_sizes, int) else tuple(bin_sizes)
    num_examples = sum(sizes)
    if num_examples < 1:
        raise ValueError("no examples to draw batches from; prepare records with some text in them")
    epochs, places = np.divmod(_places(batch_size, step), num_examples)
    batch = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        batch[here] = _epoch_order(sizes, batch_size, seed, epoch)[places[here]]
    return batch


def batch_epochs(num_examples: int, batch_size: int, step: int) -> NDArray[np.int64]:
    """The epoch, from 0, in which each example of batch number `step` comes, int64 [batch_size]."""
    return _places(batch_size, step) // num_examples


def host_share(batch_size: int, host: int, hosts: int) -> slice:
    """The rows of a batch that host number `host`, from 0, of `hosts` reads; together, in order, they are the batch.

    Raises ValueError for a batch that hosts cannot share equally, and for a host's number out of range.
    """
    if batch_size % hosts:
        raise ValueError(f"a batch of {batch_size} cannot be shared by {hosts} hosts; give a multiple of {hosts}")
    if not 0 <= host < hosts:
        raise ValueError(f"host is {host}, but the {hosts} hosts are numbered from 0")
    rows = batch_size // hosts
    return slice(host * rows, (host + 1) * rows)


def _places(batch_size: int, step: int) -> NDArray[np.int64]:
    return np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)


@functools.lru_cache(maxsize=2)  # the current epoch and, in a straddling batch, the next
def _epoch_order(bin_sizes: tuple[int, ...], batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of all examples; with bins, one whose batches are of one bin each."""
    if len(bin_sizes) == 1:
        return np.random.default_rng((seed, epoch)).permutation(bin_sizes[0])
    total = sum(bin_sizes)
    head = min(total, -epoch * total % batch_size)  # completes the batch that began in the epoch before
    tail = (total - head) % batch_size  # begins the batch that the next epoch completes
    whole, rest = _cut_into_batches(bin_sizes, batch_size, seed, epoch, head + tail)
    # From the wide end: what straddles epochs is then seldom computed wider than it is.
    straddling = rest[len(rest) - head - tail :]
    batches = np.concatenate([*whole, rest[: len(rest) - head - tail]]).reshape(-1, batch_size)
    mixed = np.random.default_rng((seed, epoch, len(bin_sizes))).permutation(batches)
    return np.concatenate([straddling[:head], mixed.reshape(-1), straddling[head:]])


def _cut_into_batches(
    bin_sizes: tuple[int, ...], batch_size: int, seed: int, epoch: int, least_rest: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Each bin's examples in a random order as far as they make whole batches, and all that is left, by width."""
    counts = [size // batch_size for size in bin_sizes]
    if sum(bin_sizes) - batch_size * sum(counts) < least_rest:
        widest = max(number for number, count in enumerate(counts) if count)
        counts[widest] -= 1
    whole, rest = [], []
    first = 0
    for number, size in enumerate(bin_sizes):
        order = first + np.random.default_rng((seed, epoch, number)).permutation(size)
        whole.append(order[: counts[number] * batch_size])
        rest.append(order[counts[number] * batch_size :])
        first += size
    return whole, np.concatenate(rest)
