"""What a task is given on a cluster: one table by the model's size and the corpus's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertline.model.config import SIZES, bert_config, read_bert_config
from bertline.settings import list_known, one_of, require_at_least, require_choices

MOST_RETRIES, MOST_HOURS = 100, 10_000  # which no task needs, and every platform can be told
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHAPE_VOCABULARY = 30522  # any: only the width and the layers of a size are asked for


@dataclass(frozen=True)
class Accelerator:
    """One kind of GPU or TPU, as each cluster calls it."""

    gke: str  # value of the node label that GKE has for it; none: any with an NVIDIA GPU
    vertex: str  # its type in a machine of Vertex AI; TPUs are their machine's
    machines: Mapping[int, str]  # how many -> Vertex's machine type; the same counts are on one machine of GKE
    topologies: Mapping[int, str] = field(default_factory=dict)  # of a TPU: how many chips -> how they lie
    regions: tuple[str, ...] = ()  # that have such TPUs

    @property
    def is_tpu(self) -> bool:
        """Whether it has chips in a topology."""
        return bool(self.topologies)


TOPOLOGIES = {1: "1x1", 4: "2x2", 8: "2x4"}  # of the chips of one machine, v5e and v6e alike
CHIPS_OF_SLICES = 4  # of each of their machines
SLICES = {16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}  # of machines with 4 chips each, likewise
# Machine types: cloud.google.com/vertex-ai/docs/training/configure-compute; regions of TPUs:
# docs.cloud.google.com/tpu/docs/regions-zones, 2026-12-01. Vertex AI may offer fewer.
ACCELERATORS = {
    "gpu": Accelerator("", "", {}),
    "gpu-t4": Accelerator(
        "nvidia-tesla-t4", "NVIDIA_TESLA_T4", {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"}
    ),
    "gpu-l4": Accelerator(
        "nvidia-l4", "NVIDIA_L4", {1: "g2-standard-12", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"}
    ),
    "gpu-a100": Accelerator(
        "nvidia-tesla-a100", "NVIDIA_TESLA_A100", {count: f"a2-highgpu-{count}g" for count in (1, 2, 4, 8)}
    ),
    "gpu-h100": Accelerator(
        "nvidia-h100-80gb", "NVIDIA_H100_80GB", {count: f"a3-highgpu-{count}g" for count in (1, 2, 4, 8)}
    ),
    "tpu-v5e": Accelerator(
        "tpu-v5-lite-podslice",
        "",
        {count: f"ct5lp-hightpu-{count}t" for count in TOPOLOGIES},
        TOPOLOGIES,
        ("us-central1", "us-south1", "us-west1", "us-west4", "europe-west4", "asia-southeast1"),
    ),
    "tpu-v6e": Accelerator(
        "tpu-v6e-slice",
        "",
        {count: f"ct6e-standard-{count}t" for count in TOPOLOGIES},
        TOPOLOGIES,
        ("us-central1", "us-east1", "us-east5", "us-south1", "europe-west4", "asia-northeast1", "southamerica-west1"),
    ),
}


def pairs(name: str, entries: tuple[str, ...]) -> dict[str, str]:
    """The entries of a field as name -> value; ValueError for one that is no pair.

    >>> pairs("env", ("A=1", "B=x=y"))
    {'A': '1', 'B': 'x=y'}
    """
    found = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not (key and equals):
            raise ValueError(f'{name} is "{entry}"; give NAME=VALUE')
        found[key] = value
    return found


def _list(values: object) -> str:
    return ", ".join(map(str, values))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Resources:
    """What one task is given; ValueError for what no cluster has."""

    # the machine:
    cpu: int = 4  # processors; on Vertex AI a machine with an accelerator has its own number
    memory_gb: int = 16  # main memory, likewise
    accelerator: str = one_of("", ("", *ACCELERATORS))  # gpu is any of NVIDIA's (Kubeflow alone)
    accelerator_count: int = 0  # GPUs or TPU chips; 0: as many as the step's devices
    topology: str = ""  # how the chips of a TPU lie, such as 2x4; none: the one that so many have on one machine
    machine_type: str = ""  # of Vertex AI, such as n2-highmem-16; none: one that suits
    node_pool: str = ""  # of GKE; none: any
    hosts: int = field(default=1, metadata={"derived": True})  # machines that share a training, each such a one
    spot: bool = False  # a machine that can be taken away at any time, for a lower price

    # how often and how long:
    retries: int = 1  # times that a task is begun again when it has failed, whatever its exit code
    timeout_hours: float = 0.0  # after which it is ended; 0: never

    # what its process finds:
    env: tuple[str, ...] = ()  # variables, NAME=VALUE each
    secrets: tuple[str, ...] = ()  # of Kubernetes: NAME=SECRET:KEY becomes a variable, /PATH=SECRET a folder of files
    volumes: tuple[str, ...] = ()  # claims of Kubernetes, /PATH=CLAIM each
    labels: tuple[str, ...] = ()  # of its pod or job, NAME=VALUE each
    service_account: str = ""  # by which a job of Vertex AI acts; none: the run's

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_choices(self)
        require_at_least(self, 1, "cpu", "memory_gb")
        require_at_least(self, 0, "accelerator_count", "retries", "timeout_hours")
        for name, most in (("retries", MOST_RETRIES), ("timeout_hours", MOST_HOURS)):
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at most {most:,}")
        for name in pairs("env", self.env):
            if not VARIABLE.fullmatch(name):
                raise ValueError(f'env is "{name}=...", whose name is no variable\'s')
        for name, secret in pairs("secrets", self.secrets).items():
            if not name.startswith("/") and not (VARIABLE.fullmatch(name) and ":" in secret):
                raise ValueError(f'secrets is "{name}={secret}"; give NAME=SECRET:KEY or /PATH=SECRET')
        for path, claim in pairs("volumes", self.volumes).items():
            if not path.startswith("/"):
                raise ValueError(f'volumes is "{path}={claim}"; give /PATH=CLAIM')
        pairs("labels", self.labels)
        self._require_one_machine()

    @property
    def is_slice(self) -> bool:
        """Whether it is TPUs of several machines."""
        return self.hosts > 1 and bool(self.accelerator) and ACCELERATORS[self.accelerator].is_tpu

    def _require_one_machine(self) -> None:
        """Chips of a topology lie on several machines where no single one has so many."""
        counts = ACCELERATORS[self.accelerator].machines if self.accelerator else {}
        if self.accelerator_count and counts and self.accelerator_count not in counts:
            raise ValueError(
                f"accelerator_count is {self.accelerator_count}; one machine has {_list(counts)} of {self.accelerator}"
                " (several machines share a training with --pretrain.hosts)"
            )
        if self.is_slice:
            name_slice(self)
        if not self.topology:
            return
        known = ACCELERATORS[self.accelerator].topologies if self.accelerator else {}
        if self.topology not in known.values():
            raise ValueError(
                f'topology is "{self.topology}"; one machine has {_list(known.values()) or "none"} '
                f"with {self.accelerator or 'no accelerator'}"
            )
        if self.accelerator_count and known[self.accelerator_count] != self.topology:
            raise ValueError(f"topology is {self.topology}, but accelerator_count {self.accelerator_count}")


def name_slice(given: Resources) -> str:
    """The topology of a slice of TPUs; ValueError where there is none of so many machines."""
    if given.accelerator_count not in (0, CHIPS_OF_SLICES):
        raise ValueError(
            f"there are {given.accelerator_count} {given.accelerator} on each of {given.hosts} hosts; machines of "
            f"slices have {CHIPS_OF_SLICES}: set devices to {CHIPS_OF_SLICES * given.hosts}"
        )
    if CHIPS_OF_SLICES * given.hosts not in SLICES:
        known = _list(chips // CHIPS_OF_SLICES for chips in SLICES)
        raise ValueError(f"hosts is {given.hosts}; of {given.accelerator} there are slices of {known} machines")
    return SLICES[CHIPS_OF_SLICES * given.hosts]


# By the model: what its training, scores and fine-tuning are given.
TRAINING = {
    "tiny": Resources(cpu=4, memory_gb=15, accelerator="gpu-t4", retries=3),
    "mini": Resources(cpu=4, memory_gb=15, accelerator="gpu-t4", retries=3),
    "small": Resources(cpu=8, memory_gb=30, accelerator="gpu-t4", retries=3),
    "medium": Resources(cpu=8, memory_gb=30, accelerator="gpu-l4", retries=3),
    "base": Resources(cpu=8, memory_gb=32, accelerator="gpu-l4", retries=3),
    "large": Resources(cpu=12, memory_gb=80, accelerator="gpu-a100", retries=3),
}
# By gigabytes of text, up to which a row holds: what the data steps are given. Their memory grows with their
# processes, not with the text.
DATA = {
    0.1: Resources(cpu=2, memory_gb=8),
    1.0: Resources(cpu=4, memory_gb=16),
    20.0: Resources(cpu=16, memory_gb=64),
    float("inf"): Resources(cpu=32, memory_gb=128),
}
SMALL = DATA[0.1]  # for what reads notes alone: the page of what was made from what, gates of a schedule
ON_DATA = ("ingest", "split", "vocabulary", "prepare_128", "prepare_512", "heldout_128", "heldout_512", "export")
ON_TRAINING = ("pretrain_128", "pretrain_512", "evaluate", "finetune")
CORPUS_GB = 1.0  # where a run does not say


def suggest_resources(model: str = "base", corpus_gb: float = CORPUS_GB) -> dict[str, Resources]:
    """Step of a run -> the table's rows for it."""
    data = next(row for most, row in DATA.items() if corpus_gb <= most)
    training = TRAINING[_preset(model)]
    return dict.fromkeys(ON_DATA, data) | dict.fromkeys(ON_TRAINING, training)


def resources_of(task: str, plan: Mapping[str, Resources]) -> Resources:
    """A task's: those of its step (evaluate_128 is one of evaluate's), or SMALL where it is no step's."""
    step = "evaluate" if task == "promote" else task  # which scores two models
    return plan.get(step) or plan.get(step.rpartition("_")[0]) or SMALL


def _preset(model: str) -> str:
    """The smallest preset with as many weights in its layers; the largest for a configuration that lies elsewhere."""
    if model in TRAINING:
        return model
    if model not in SIZES and not Path(model).is_file():
        if not model.startswith(("gs://", "/")):
            raise ValueError(f'model "{model}" is no known size{list_known(model, sorted(SIZES))}')
        return "large"
    weights = _weights(model)
    return next((preset for preset in TRAINING if _weights(preset) >= weights), "large")


def _weights(model: str) -> int:
    shape = bert_config(model, SHAPE_VOCABULARY) if model in SIZES else read_bert_config(Path(model))
    return shape.num_hidden_layers * shape.hidden_size**2
