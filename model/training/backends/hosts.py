"""Hosts that train one model together: each runs the same command, on devices of its own and rows of its own (JAX)."""

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.training.backends.choice import Hosts, in_use, use_backend
from bertline.preemption import Preemption
from bertline.progress import say

if TYPE_CHECKING:
    from bertline.model.pretraining.config import PretrainConfig

CLUSTER_VARIABLE = "CLUSTER_SPEC"  # of Vertex AI: all machines of a job, and this one's place among them
OWN_SETTINGS = ("host", "coordinator")  # a host's; all others are the same on every host
MARK = ".hosts"  # a file that the first host writes and all read
FAILED_SECONDS = 30  # that a host which failed waits for the others to hear of it


class SeveralHosts(Hosts):
    """This host among several: what `Hosts` does for one alone takes JAX's service here."""

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError on every host, naming what differs, unless all have the same `facts` (JSON)."""
        every = _gather(facts)
        names = dict.fromkeys(name for each in every for name in each)
        found = {name: [each.get(name, "nothing") for each in every] for name in names}
        differing = [
            f"{name} is {', '.join(f'{value} on host {number}' for number, value in enumerate(values))}"
            for name, values in found.items()
            if any(value != values[0] for value in values)
        ]
        if differing:
            needs = "all hosts need the same settings, inputs and version of bertline, and one store"
            raise ValueError(f"{'; '.join(differing)}; {needs}")

    def share(self, folder: Path) -> None:
        """Raise ValueError on every host unless all see what the first writes in `folder`."""
        mark = folder / MARK
        if self.writes:
            folder.mkdir(parents=True, exist_ok=True)
            mark.write_text(secrets.token_hex(8), encoding="utf-8")
        self.meet("the mark is written")
        seen = mark.read_text(encoding="utf-8") if mark.is_file() else f"not in {folder}"
        self.agree({"the mark of the first host": seen})
        if self.writes:
            mark.unlink()

    def meet(self, where: str) -> None:
        """Wait until every host has come here."""
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(where)

    def preemption(self) -> Preemption:
        """What notes that a host is taken away; all hosts learn of it at the same step."""
        return SharedPreemption()


def _gather(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The facts of every host."""
    from jax.experimental.multihost_utils import process_allgather

    own = json.dumps(facts).encode()
    longest = int(np.max(process_allgather(np.int32(len(own)))))
    padded = np.frombuffer(own.ljust(longest), np.uint8)
    return [json.loads(bytes(row)) for row in np.asarray(process_allgather(padded))]


class SharedPreemption(Preemption):
    """SIGTERM on any host, as JAX's service tells all of them; it listens from the start of `join_hosts`."""

    def __init__(self) -> None:
        """Nothing was asked for yet."""
        super().__init__()
        self.saves = True  # as the other hosts may: none ends without them
        self._looks = 0

    def note(self) -> None:
        """Leave that to JAX's service: this host ends at the same look as all others."""

    def forget_looks(self) -> None:
        """Go on as before."""

    def look(self) -> bool:
        """Whether to end here: true on every host at the same look, so that all save the same step."""
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        self._looks += 1
        self.requested = self.requested or reached_preemption_sync_point(self._looks)
        return self.requested


@contextlib.contextmanager
def join_hosts(config: "PretrainConfig") -> Iterator[SeveralHosts]:
    """The hosts of a training, from where all have started to where all have ended.

    Raises ValueError where they are asked for on another backend than JAX, cannot be found, or are not as many.
    """
    use_backend(config.backend)
    if in_use() != "jax":
        raise ValueError(f"hosts is {config.hosts}; several hosts share a batch on the jax backend only")
    import jax

    say(f"waiting for all {config.hosts} hosts")
    coordinator, host = (config.coordinator, config.host) if config.coordinator else _find_place(config)
    try:
        jax.distributed.initialize(
            coordinator or None,
            config.hosts if coordinator else None,
            host if host >= 0 else None,
            cluster_detection_method="deactivate" if coordinator else None,
            shutdown_timeout_seconds=FAILED_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the {config.hosts} hosts do not find each other ({str(error).splitlines()[0]}); where no cluster says it "
            "(Cloud TPU, Slurm, Open MPI), give coordinator, ADDRESS:PORT of host 0, and host, this one's number"
        ) from error
    hosts = SeveralHosts(jax.process_index(), jax.process_count())
    try:
        _require_alike_hosts(config, hosts)
        yield hosts
    except (ValueError, OSError) as error:
        say(f"host {hosts.number}: {error}")  # now: JAX ends this process where the other hosts go on
        raise
    finally:
        with contextlib.suppress(RuntimeError):  # where another host has died, it cannot confirm the end
            jax.distributed.shutdown()


def _find_place(config: "PretrainConfig") -> tuple[str, int]:
    """Where the hosts meet and this one's number, as Vertex AI says them; as JAX shall find out, where it does not.

    Its variable lists the machines of each worker pool (cloud.google.com/vertex-ai/docs/training/distributed-training).
    The machines of a slice of TPUs are a pool of one, and JAX knows them.
    """
    told = json.loads(os.environ.get(CLUSTER_VARIABLE) or "{}")
    pools = dict(sorted(told.get("cluster", {}).items()))
    machines = [(pool, place) for pool, addresses in pools.items() for place in range(len(addresses))]
    if len(machines) < 2:
        return "", config.host
    here = told["task"]["type"], int(told["task"]["index"])
    return pools[machines[0][0]][0], machines.index(here)


def _require_alike_hosts(config: "PretrainConfig", hosts: SeveralHosts) -> None:
    import jax

    if hosts.count != config.hosts:
        raise ValueError(f"hosts is {config.hosts}, but the cluster has {hosts.count}; give that number")
    devices = [sum(device.process_index == number for device in jax.devices()) for number in range(hosts.count)]
    if len(set(devices)) > 1:
        raise ValueError(f"the hosts have {', '.join(map(str, devices))} devices; hosts must have equally many")
    settings = dataclasses.asdict(config)
    hosts.agree({name: value for name, value in settings.items() if name not in OWN_SETTINGS})
