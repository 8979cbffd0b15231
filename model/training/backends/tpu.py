"""TPU cores: whether this machine has them."""

import importlib.util


def require_tpu_cores(count: int) -> None:
    """ValueError, saying what JAX finds, unless this machine has that many TPU cores."""
    if importlib.util.find_spec("jax") is None:
        raise ValueError("use_tpu is true, but JAX is not installed; pip install 'jax[tpu]' on the TPU's machine")
    import jax

    found = jax.devices()
    platform = found[0].platform
    if platform != "tpu":
        raise ValueError(
            f"use_tpu is true, but JAX finds no TPU here, only {platform}; start this program on the TPU's own "
            "machine with jax[tpu] installed, or leave use_tpu away"
        )
    if count > len(found):
        raise ValueError(f"num_tpu_cores is {count}, but this TPU has {len(found)}; give --num_tpu_cores={len(found)}")
