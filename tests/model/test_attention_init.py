"""First weights with which heads begin at neighbouring words: what attention then looks at."""

import dataclasses

import numpy as np
import pytest

from bertline.model.attention_init import OFFSETS, POSITIONS, shift, sinusoids, start_at_neighbours
from bertline.model.bert import initial_weights
from bertline.model.config import bert_config, encoder_shapes, pretraining_shapes
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.run import start_fresh

SHAPE = dataclasses.replace(bert_config("tiny", 200), max_position_embeddings=128, initializer_range=0.088)


def attention(weights: dict[str, np.ndarray], layer: int, head: int, words: np.ndarray) -> np.ndarray:
    """Shares of a head of the layer, were it the first one, [from, to]."""
    x = words + weights[POSITIONS] + weights["bert/embeddings/token_type_embeddings"][0]
    x = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    size = SHAPE.hidden_size // SHAPE.num_attention_heads
    name, columns = f"bert/encoder/layer_{layer}/attention/self", slice(head * size, (head + 1) * size)
    query, key = (x @ weights[f"{name}/{part}/kernel"][:, columns] for part in ("query", "key"))
    scores = query @ key.T / np.sqrt(size)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("head", [0, 1])
def test_a_head_begins_at_its_neighbour_whatever_the_words(layer: int, head: int) -> None:
    weights = initial_weights(encoder_shapes(SHAPE), SHAPE.initializer_range, seed=1)
    words = weights["bert/embeddings/word_embeddings"][np.arange(SHAPE.max_position_embeddings)]
    before = attention(weights, layer, head, words)
    shares = attention(start_at_neighbours(weights, SHAPE), layer, head, words)
    places = np.arange(1, len(shares) - 1)
    assert np.mean(np.argmax(shares[places], axis=-1) == places + OFFSETS[head]) > 0.5
    assert shares[places, places + OFFSETS[head]].mean() > 0.2 > 0.02 > before[places, places + OFFSETS[head]].mean()


def test_a_shift_kernel_makes_of_a_position_what_the_kernel_makes_of_another() -> None:
    kernel, table = np.random.default_rng(1).standard_normal((64, 8)), sinusoids(40, 64)
    for offset in (-2, -1, 1, 5):
        there = np.arange(5, 30)
        np.testing.assert_allclose(table[there] @ shift(kernel, offset), table[there + offset] @ kernel, atol=1e-4)


def test_positions_are_nearly_orthogonal_and_as_long_as_random_ones() -> None:
    table = sinusoids(512, 128)
    products = table @ table.T / 128
    np.testing.assert_allclose(np.diag(products), 1.0, atol=1e-4)
    others = np.abs(products - np.diag(np.diag(products)))
    assert others.max() < 0.3
    assert max(np.diag(others, shift).max() for shift in range(1, 9)) < 0.03


def test_only_positions_queries_and_keys_differ() -> None:
    weights = initial_weights(pretraining_shapes(SHAPE), SHAPE.initializer_range, seed=1)
    changed = start_at_neighbours(weights, SHAPE)
    assert changed.keys() == weights.keys()
    for name, array in changed.items():
        assert (array.dtype, array.shape) == (np.float32, weights[name].shape)
        expected = name == POSITIONS or name.endswith(("query/kernel", "key/kernel"))
        assert (array is not weights[name]) == expected


def test_a_stage_begins_so_where_it_is_asked_for(toy_folder, stage_config) -> None:
    vocab = toy_folder / "vocab.txt"
    usual, asked = (
        start_fresh(vocab, stage_config(attention_initializer=name)).weights for name in ("random", "neighbours")
    )
    assert not np.array_equal(usual[POSITIONS], asked[POSITIONS])
    with pytest.raises(ValueError, match='attention_initializer is "near"; known: random, neighbours'):
        PretrainConfig(attention_initializer="near")


def test_an_odd_width_is_refused() -> None:
    odd = dataclasses.replace(SHAPE, hidden_size=9, num_attention_heads=3)
    with pytest.raises(ValueError, match="hidden_size is 9; heads can begin at neighbours where it is even"):
        start_at_neighbours(initial_weights(encoder_shapes(odd), 0.1, seed=1), odd)
