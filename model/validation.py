"""Checks that the configurations of training and evaluation share."""

from collections.abc import Collection
from typing import Any

PRECISIONS = ("float32", "mixed_bfloat16")  # of the computation; weights are always kept in float32
BACKENDS = ("tensorflow", "jax")
MAX_SEED = 2**31 - 1  # what every generator in use accepts


def require_at_least(config: Any, minimum: int, *names: str) -> None:
    """Refuse a config whose field is below `minimum` (ValueError naming field, value and range)."""
    for name in names:
        if getattr(config, name) < minimum:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least {minimum}")


def require_positive(config: Any, *names: str) -> None:
    """Refuse a config whose field is zero, negative or no number."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be greater than 0")


def require_seed(seed: int) -> None:
    """Refuse a seed that a generator would not take."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed is {seed}; it must lie between 0 and {MAX_SEED}")


def require_one_of(name: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is none of the `known` ones."""
    if value not in known:
        raise ValueError(f'{name} is "{value}"; known: {", ".join(known)}')


def require_precision(precision: str) -> None:
    """Refuse an unknown precision."""
    require_one_of("precision", precision, PRECISIONS)


def require_backend(backend: str) -> None:
    """Refuse an unknown backend; none is the default's."""
    if backend:
        require_one_of("backend", backend, BACKENDS)


def require_length(max_seq_length: int, max_position_embeddings: int) -> None:
    """Refuse sequences longer than the model's table of positions."""
    if max_seq_length > max_position_embeddings:
        raise ValueError(
            f"max_seq_length is {max_seq_length}, but the model has {max_position_embeddings} positions "
            "(max_position_embeddings); take a smaller max_seq_length"
        )
