"""Hosts that train one model together: each runs the same command, on devices of its own and rows of its own (JAX)."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertline.model.backends.use import use_backend
from bertline.model.preemption import Preemption
from bertline.model.progress import say

if TYPE_CHECKING:
    from bertline.model.pretrain_config import PretrainConfig

MARK = ".hosts"  # a file that the first host writes and all read
FAILED_SECONDS = 30  # that a host which failed waits for the others to hear of it


@dataclass(frozen=True)
class Hosts:
    """This host among those that train together."""

    number: int = 0  # from 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this host writes what training leaves: one does, for all."""
        return self.number == 0

    def agree(self, what: str, value: str) -> None:
        """Raise ValueError on every host unless `value`, of up to 64 bytes, is the same on all."""
        if self.count == 1:
            return
        from jax.experimental.multihost_utils import process_allgather

        own = np.frombuffer(value.encode()[:64].ljust(64), np.uint8)
        values = [bytes(row).decode(errors="replace").rstrip() for row in np.asarray(process_allgather(own))]
        if len(set(values)) > 1:
            found = ", ".join(f"{each} on host {number}" for number, each in enumerate(values))
            raise ValueError(
                f"{what} is {found}; all hosts need the same settings, inputs and version of bertline, and one store"
            )

    def share(self, folder: Path) -> None:
        """Raise ValueError on every host unless all see what the first writes in `folder`."""
        if self.count == 1:
            return
        mark = folder / MARK
        if self.writes:
            folder.mkdir(parents=True, exist_ok=True)
            mark.write_text(secrets.token_hex(8), encoding="utf-8")
        self.meet("the mark is written")
        self.agree(f"the mark in {folder}", mark.read_text(encoding="utf-8") if mark.is_file() else "missing")
        if self.writes:
            mark.unlink()

    def meet(self, where: str) -> None:
        """Wait until every host has come here."""
        if self.count > 1:
            from jax.experimental.multihost_utils import sync_global_devices

            sync_global_devices(where)

    def preemption(self) -> Preemption:
        """What notes that a host is taken away; all hosts learn of it at the same step."""
        return Preemption() if self.count == 1 else SharedPreemption()


ALONE = Hosts()


class SharedPreemption(Preemption):
    """SIGTERM on any host, as JAX's service tells all of them; it listens from the start of `joined`."""

    def __init__(self) -> None:
        """Nothing was asked for yet."""
        super().__init__(listens=False)
        self._looks = 0

    def look(self) -> bool:
        """Whether to end here: true on every host at the same look, so that all save the same step."""
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        self._looks += 1
        self.requested = self.requested or reached_preemption_sync_point(self._looks)
        return self.requested


@contextlib.contextmanager
def joined(config: "PretrainConfig") -> Iterator[Hosts]:
    """The hosts of a training, from where all have started to where all have ended.

    Raises ValueError where they are asked for on another backend than JAX, cannot be found, or are not as many.
    """
    if config.hosts == 1:
        yield ALONE
        return
    use_backend(config.backend)
    from bertline.model.backends.choice import in_use

    if in_use() != "jax":
        raise ValueError(f"hosts is {config.hosts}; several hosts share a batch on the jax backend only")
    import jax

    say(f"waiting for all {config.hosts} hosts")
    try:
        jax.distributed.initialize(
            config.coordinator or None,
            config.hosts if config.coordinator else None,
            config.host if config.host >= 0 else None,
            cluster_detection_method="deactivate" if config.coordinator else None,
            shutdown_timeout_seconds=FAILED_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the {config.hosts} hosts do not find each other ({str(error).splitlines()[0]}); where no cluster says it "
            "(Cloud TPU, Slurm, Open MPI), give coordinator, ADDRESS:PORT of host 0, and host, this one's number"
        ) from error
    hosts = Hosts(jax.process_index(), jax.process_count())
    try:
        _refuse_other_hosts(config, hosts)
        yield hosts
    except (ValueError, OSError) as error:
        say(f"host {hosts.number}: {error}")  # now: where the others do not end, too, leaving them ends this process
        raise
    finally:
        with contextlib.suppress(RuntimeError):  # where another host has died, all that is lost is its farewell
            jax.distributed.shutdown()


def _refuse_other_hosts(config: "PretrainConfig", hosts: Hosts) -> None:
    import jax

    if hosts.count != config.hosts:
        raise ValueError(f"hosts is {config.hosts}, but the cluster has {hosts.count}; give that number")
    devices = [sum(device.process_index == number for device in jax.devices()) for number in range(hosts.count)]
    if len(set(devices)) > 1:
        raise ValueError(f"the hosts have {', '.join(map(str, devices))} devices; hosts must have equally many")
