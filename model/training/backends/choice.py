"""Which backend computes, and on which hosts: Keras's, TensorFlow by default; chosen once, before Keras is loaded.

It computes one or more updates in a compiled call: batches are read a call ahead, metrics looked at afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bertline.preemption import Preemption
from bertline.settings import BACKEND_VARIABLE, BACKENDS

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights
    from bertline.model.training.checkpoint import Arrays
    from bertline.model.training.update import Update

Metrics = dict[str, float]

TENSORFLOW = BACKENDS[0]
# What TensorFlow says while it is loaded, before it heeds TF_CPP_MIN_LOG_LEVEL: of absent GPUs and of oneDNN.
CHATTER = (b"WARNING: All log messages before absl::InitializeLog()", b" cudart_stub.cc:", b" port.cc:")
LOG_LEVEL_VARIABLE, ERRORS_OF_CALLS = "TF_CPP_MIN_LOG_LEVEL", "3"  # which are raised, too
FILTER = f"""
import sys
for line in sys.stdin.buffer:
    if not any(chatter in line for chatter in {CHATTER}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""
STDERR = 2


@dataclass(frozen=True)
class Hosts:
    """This host among those that train together: one alone here, several in backends/hosts.py."""

    number: int = 0  # from 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this host writes what training leaves: one does, for all."""
        return self.number == 0

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError on every host, naming what differs, unless all have the same `facts` (JSON)."""

    def meet(self, where: str) -> None:
        """Wait until every host has come here."""

    def preemption(self) -> Preemption:
        """What notes that a host is taken away."""
        return Preemption()


ALONE = Hosts()


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
        os.environ[BACKEND_VARIABLE] = name
    if os.environ.get(BACKEND_VARIABLE, TENSORFLOW) == TENSORFLOW and TENSORFLOW not in sys.modules:
        with _without_chatter():
            importlib.import_module(TENSORFLOW)


def keep_quiet() -> None:
    """Let what computes, once it is loaded, not say at a prompt or in a notebook that there are no GPUs."""
    os.environ.setdefault(LOG_LEVEL_VARIABLE, ERRORS_OF_CALLS)


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


@dataclass(frozen=True)
class Call:
    """Updates that are computed together."""

    steps: range
    batches: Arrays  # [steps, batch, ...]

    def dispatch(self, trainer: Trainer) -> Mapping[str, Tensor]:
        """Start the updates; their metrics, scalars of one update and [steps] of several, may not be computed yet."""
        if len(self.steps) == 1:
            return trainer.update(self.steps.start, {name: values[0] for name, values in self.batches.items()})
        return trainer.updates(self.steps.start, self.batches)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What a compiled call is compiled for."""
        return tuple(values.shape for values in self.batches.values())

    def rows(self, metrics: Mapping[str, Tensor]) -> list[Metrics]:
        """The metrics of one update after the other; waits until they are computed."""
        columns = {name: np.reshape(np.asarray(values), -1) for name, values in metrics.items()}
        return [{name: float(values[place]) for name, values in columns.items()} for place in range(len(self.steps))]


def read_calls(
    reader: ThreadPoolExecutor, batch_at: Callable[[int], Arrays], start: int, stop: int, steps_per_call: int
) -> Iterator[tuple[int, list[Call]]]:
    """The calls of the steps from `start` up to `stop`, a span of `steps_per_call` at a time, each with its last step.

    `reader` reads the batches of the next span meanwhile. A span is one call, but where batches of other lengths
    follow each other.
    """

    def read(steps: range) -> tuple[int, list[Call]]:
        return steps.stop, _stack(steps, [batch_at(step) for step in steps])

    coming: Future[tuple[int, list[Call]]] | None = None
    for steps in _spans(start, stop, steps_per_call):
        ready, coming = coming, reader.submit(read, steps)
        if ready is not None:
            yield ready.result()
    if coming is not None:
        yield coming.result()


def _spans(start: int, stop: int, length: int) -> Iterator[range]:
    """The steps of each span of calls: a grid of absolute steps, so that a resumed run has the same calls.

    >>> list(_spans(2, 11, 4))
    [range(2, 4), range(4, 8), range(8, 11)]
    """
    while start < stop:
        end = min(stop, start - start % length + length)
        yield range(start, end)
        start = end


def _stack(steps: range, batches: list[Arrays]) -> list[Call]:
    """One call for the batches, or more where batches of different lengths follow each other."""

    def shapes(place: int) -> list[tuple[int, ...]]:
        return [values.shape for values in batches[place].values()]

    calls = []
    for _, alike in itertools.groupby(range(len(steps)), key=shapes):
        places = list(alike)
        stacked = {name: np.stack([batches[place][name] for place in places]) for name in batches[places[0]]}
        calls.append(Call(steps[places[0] : places[-1] + 1], stacked))
    return calls
