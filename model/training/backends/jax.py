"""Training on the JAX backend: GPUs, TPUs, and several devices, of one host or of more, that share each batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertline.model.bert import Tensor, Weights
from bertline.model.training.update import Update, Values, compute_update

Arrays = dict[str, np.ndarray]
BATCH = "batch"  # the axis of the devices


class JaxTrainer:
    """Weights and slots, a copy on each device, and the compiled update of them."""

    def __init__(
        self, weights: Mapping[str, np.ndarray], slots: Mapping[str, np.ndarray], update: Update, *, devices: int = 1
    ) -> None:
        """Start from `weights` and `slots`, the same on every host, on the first `devices` devices.

        Batches are the rows of this host's devices (bertline.model.records.reader.host_share).
        Raises ValueError when there are fewer devices.
        """
        mesh = Mesh(np.array(first_devices(devices)), (BATCH,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._shared = NamedSharding(mesh, PartitionSpec(BATCH))  # each device has its share of the examples
        self._weights, self._slots = (
            {name: copy_to(self._everywhere, array) for name, array in arrays.items()} for arrays in (weights, slots)
        )

        def update_of(weights: Weights, slots: Weights, step: Tensor, batch: Mapping[str, Tensor]) -> Any:
            return compute_update(update, values_and_gradients, weights, slots, step, batch)

        # The old weights' memory is given to the new ones.
        self._update = jax.jit(update_of, donate_argnums=(0, 1), out_shardings=self._everywhere)

        def updates_of(weights: Weights, slots: Weights, step: Tensor, batches: Mapping[str, Tensor]) -> Any:
            def one(state: Any, place: Any) -> Any:
                *after, metrics = update_of(*state, *place)
                return tuple(after), metrics

            count = next(iter(batches.values())).shape[0]
            (weights, slots), rows = jax.lax.scan(one, (weights, slots), (step + jnp.arange(count), batches))
            return weights, slots, rows

        self._updates = jax.jit(updates_of, donate_argnums=(0, 1), out_shardings=self._everywhere)
        self._shared_each = NamedSharding(mesh, PartitionSpec(None, BATCH))  # likewise of each of several batches

    def update(self, step: int, batch: Mapping[str, np.ndarray]) -> Mapping[str, Tensor]:
        """Do the update that follows `step` earlier ones; returns its metrics, scalars that may not be there yet."""
        placed = shard(self._shared, batch)
        self._weights, self._slots, metrics = self._update(self._weights, self._slots, np.int32(step), placed)
        return dict(metrics)

    def updates(self, step: int, batches: Mapping[str, np.ndarray]) -> Mapping[str, Tensor]:
        """Do an update on each of `batches`, [updates, batch, ...], in one call; returns their metrics, [updates]."""
        placed = shard(self._shared_each, batches)
        self._weights, self._slots, metrics = self._updates(self._weights, self._slots, np.int32(step), placed)
        return dict(metrics)

    def weights(self) -> Arrays:
        """The weights by name, float32; a copy, as an array of JAX lies in memory that the next update takes."""
        return {name: np.array(array) for name, array in self._weights.items()}

    def slots(self) -> Arrays:
        """The slots: adam_m and adam_v of every weight; a copy."""
        return {name: np.array(array) for name, array in self._slots.items()}

    def forward(
        self, function: Callable[[Weights, Mapping[str, Tensor]], Any]
    ) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """`function(weights, batch)` compiled once; every call computes with the weights of that moment."""
        of_both = jax.jit(function, out_shardings=self._everywhere)
        return lambda batch: of_both(self._weights, shard(self._shared, batch))


def values_and_gradients(function: Callable[[Weights], Values], weights: Weights) -> tuple[Values, Values]:
    """The function's values, and the gradient of its "loss" for every weight."""

    def loss_and_values(weights: Weights) -> tuple[Tensor, Values]:
        values = function(weights)
        return values["loss"], values

    (_, values), gradients = jax.value_and_grad(loss_and_values, has_aux=True)(dict(weights))
    return values, gradients


def copy_to(everywhere: NamedSharding, array: np.ndarray) -> jax.Array:
    """An array that is the same on every host, as a copy on each device."""
    return jax.make_array_from_callback(array.shape, everywhere, lambda _: array)


def shard(shared: NamedSharding, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's rows of a batch on its devices."""
    return {name: jax.make_array_from_process_local_data(shared, array) for name, array in batch.items()}


def first_devices(count: int) -> list[Any]:
    """That many devices, as many of each host; ValueError that says how many there are if there are fewer.

    They are in the order of the hosts, so that a host's devices have adjacent rows.
    """
    hosts = jax.process_count()
    of_host = [[device for device in jax.devices() if device.process_index == host] for host in range(hosts)]
    if count > hosts * min(map(len, of_host)):
        kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
        found = ", ".join(str(len(devices)) for devices in of_host)
        where = "here" if hosts == 1 else f"on the {hosts} hosts"
        raise ValueError(f"devices is {count}, but JAX finds {found} {where} ({kinds}); ask for at most so many")
    return [device for devices in of_host for device in devices[: count // hosts]]
