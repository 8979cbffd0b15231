"""Which backend computes: Keras's, TensorFlow by default; a process chooses once, before anything loads Keras."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights
    from bertline.model.training.checkpoint import Arrays
    from bertline.model.training.update import Update

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"
# What TensorFlow says while it is loaded, before it heeds TF_CPP_MIN_LOG_LEVEL: of absent GPUs and of oneDNN.
CHATTER = (b"WARNING: All log messages before absl::InitializeLog()", b" cudart_stub.cc:", b" port.cc:")
FILTER = f"""
import sys
for line in sys.stdin.buffer:
    if not any(chatter in line for chatter in {CHATTER}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""
STDERR = 2


class Trainer(Protocol):
    """Weights and slots on some devices, and the compiled update of them."""

    def update(self, step: int, batch: Arrays) -> Mapping[str, Tensor]:
        """Do the update that follows `step` earlier ones; returns its metrics, scalars."""

    def updates(self, step: int, batches: Arrays) -> Mapping[str, Tensor]:
        """Do an update on each of `batches`, [updates, batch, ...], in one call; returns their metrics, [updates]."""

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, float32."""

    def slots(self) -> dict[str, np.ndarray]:
        """The slots: adam_m and adam_v of every weight."""

    def forward(self, function: Callable[[Weights, Mapping[str, Tensor]], Any]) -> Callable[[Arrays], Any]:
        """`function(weights, batch)` compiled once; every call computes with the weights of that moment.

        A batch's examples are a multiple of the devices.
        """


def use_backend(name: str) -> None:
    """Let Keras compute with this backend; an empty name leaves the choice to the environment.

    Raises ValueError when the backend is not installed, or when Keras has been loaded with another one.
    """
    if name and "keras" in sys.modules:
        if in_use() != name:
            raise ValueError(f"backend is {name}, but this process computes with {in_use()} already; start another one")
    elif name:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"backend is {name}, which is not installed; pip install 'bertline[{name}]'")
        os.environ[VARIABLE] = name
    if os.environ.get(VARIABLE, TENSORFLOW) == TENSORFLOW and TENSORFLOW not in sys.modules:
        with _without_chatter():
            importlib.import_module(TENSORFLOW)


def in_use() -> str:
    """The backend that Keras has loaded."""
    import keras

    name: str = keras.backend.backend()
    return name


def new_trainer(
    weights: Arrays, slots: Arrays | None, update: Update, *, jit_compile: bool, devices: int = 1
) -> Trainer:
    """A trainer of `weights` (by name), with the slots of an earlier run or, without, from zero.

    Raises ValueError for more devices than the backend in use has.
    """
    from bertline.model.training.update import ADAM_M, ADAM_V

    if slots is None:
        slots = {name + slot: np.zeros_like(w) for name, w in weights.items() for slot in (ADAM_M, ADAM_V)}
    # A fixed order: the norm's sum depends on it, and files give the weights back in an order of their own.
    ordered = {name: weights[name] for name in sorted(weights)}
    if in_use() == "jax":
        from bertline.model.training.backends.jax import JaxTrainer

        return JaxTrainer(ordered, slots, update, devices=devices)
    from bertline.model.training.backends.tensorflow import TensorFlowTrainer

    if devices > 1:
        raise ValueError(f"devices is {devices}; several devices share a batch on the jax backend only")
    return TensorFlowTrainer(ordered, slots, update, jit_compile=jit_compile)


def compile_forward(
    function: Callable[[Weights, Mapping[str, Tensor]], Any], weights: Arrays, *, jit_compile: bool
) -> Callable[[Arrays], Any]:
    """`function(weights, batch)` compiled for a batch of every shape that comes; weights stay on the device."""
    if in_use() == "jax":
        import jax

        placed = {name: jax.device_put(array) for name, array in weights.items()}
        of_both = jax.jit(function)
        return lambda batch: of_both(placed, dict(batch))
    from bertline.model.training.backends.tensorflow import compile_graph, variables_of

    variables = variables_of(weights)
    forward: Callable[[Arrays], Any] = compile_graph(lambda batch: function(variables, batch), jit_compile=jit_compile)
    return lambda batch: forward(dict(batch))


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
            "machine with jax[tpu] installed, or leave use_tpu out"
        )
    if count > len(found):
        raise ValueError(f"num_tpu_cores is {count}, but this TPU has {len(found)}; give --num_tpu_cores={len(found)}")


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Pass on what this process writes to its standard error, but for CHATTER: by a process that outlives a crash."""
    sys.stderr.flush()
    shown = os.dup(STDERR)
    with subprocess.Popen([sys.executable, "-ISc", FILTER], stdin=subprocess.PIPE) as passing_on:
        assert passing_on.stdin is not None
        os.dup2(passing_on.stdin.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, STDERR)
            os.close(shown)
