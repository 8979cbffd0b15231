"""First weights with which attention begins at the neighbouring words, instead of having to find them.

A masked word tells nothing of itself: until attention has found the words beside it, a model learns little more than
how often words come, which takes a large share of a short training. The architecture is BERT's; first values differ.
"""

from collections.abc import Mapping

import numpy as np

from bertline.model.config import BertConfig

RANDOM, NEIGHBOURS = "random", "neighbours"
ATTENTION_INITIALIZERS = (RANDOM, NEIGHBOURS)
OFFSETS = (-1, 1)  # of the words that heads begin at, in turn
# Of the score of that word's position over others', were half of a normalised embedding its position; as segments have
# a share, too, and normal values are cut, it is about 5.
LEAD = 8.0
POSITIONS = "bert/embeddings/position_embeddings"


def start_at_neighbours(weights: Mapping[str, np.ndarray], config: BertConfig) -> dict[str, np.ndarray]:
    """First weights as `initial_weights` makes them, with other positions, queries and keys.

    Positions become sinusoids as in Vaswani et al. 2017, 3.5, but of frequencies spread over all: so they are nearly
    orthogonal, and a shift by some words is a rotation. A head's query kernel is its key kernel after such a shift: a
    word's query is then the key of its neighbour, as far as positions go. Kernels of queries and keys that begin alike
    are mimetic initialization (Trockman and Kolter 2023, arXiv 2305.09828), there without a shift.
    Raises ValueError for an odd hidden_size.
    """
    hidden, heads, deviation = config.hidden_size, config.num_attention_heads, config.initializer_range
    if hidden % 2:
        raise ValueError(f"hidden_size is {hidden}; heads can begin at neighbours where it is even")
    changed = dict(weights)
    changed[POSITIONS] = deviation * sinusoids(config.max_position_embeddings, hidden)
    size = hidden // heads
    # The score of a position of squared length hidden / 2 with itself.
    usual = deviation**2 * np.sqrt(size) * hidden / 2
    for number in range(config.num_hidden_layers):
        name = f"bert/encoder/layer_{number}/attention/self"
        keys = changed[f"{name}/key/kernel"] * np.sqrt(LEAD / usual)
        columns = [keys[:, head * size : (head + 1) * size] for head in range(heads)]
        queries = [shift(kernel, OFFSETS[head % len(OFFSETS)]) for head, kernel in enumerate(columns)]
        changed[f"{name}/key/kernel"] = keys.astype(np.float32)
        changed[f"{name}/query/kernel"] = np.concatenate(queries, axis=1).astype(np.float32)
    return changed


def sinusoids(positions: int, size: int) -> np.ndarray:
    """A table of positions, float32 [positions, size], of variance 1: sines of all frequencies, then cosines."""
    angles = np.arange(positions)[:, None] * _frequencies(size)
    return (np.sqrt(2.0) * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).astype(np.float32)


def shift(kernel: np.ndarray, offset: int) -> np.ndarray:
    """The kernel that makes of a row of `sinusoids` what `kernel` makes of the row `offset` further."""
    sine, cosine = (wave(_frequencies(len(kernel)) * offset)[:, None] for wave in (np.sin, np.cos))
    of_sines, of_cosines = np.split(kernel, 2)
    return np.concatenate([cosine * of_sines - sine * of_cosines, sine * of_sines + cosine * of_cosines])


def _frequencies(size: int) -> np.ndarray:
    """Radians a word, spread between 0 and pi: one in each of as many intervals, so that nothing repeats."""
    count = size // 2
    return np.pi * (np.arange(count) + np.random.default_rng(0).random(count)) / count
