"""Pods that want accelerators: GKE finds a node for them only by selectors, a taint and numbers that fit together."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from infra.check.finding import Finding

GPU, TPU = "nvidia.com/gpu", "google.com/tpu"
GPU_LABEL = "cloud.google.com/gke-accelerator"
TPU_LABEL, TOPOLOGY_LABEL = "cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-tpu-topology"
# Beginning of a machine type -> what GKE labels its nodes with.
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
LABEL_OF_MACHINE = {
    "ct4p-hightpu": "tpu-v4-podslice",
    "ct5lp-hightpu": "tpu-v5-lite-podslice",
    "ct5p-hightpu": "tpu-v5p-slice",
    "ct6e-standard": "tpu-v6e-slice",
    "tpu7x-standard": "tpu7x",
}


def check_pod(
    file: str, name: str, pod: Mapping[str, Any], gpu_pool: Mapping[str, str], tpu_pool: Mapping[str, str]
) -> Iterator[Finding]:
    """A pod's template against the defaults of terraform's pools; nothing for one without accelerators."""
    limits = {key: value for each in pod.get("containers", []) for key, value in _limits_of(each).items()}
    selector = pod.get("nodeSelector") or {}
    tolerated = {each.get("key") for each in pod.get("tolerations") or []}
    for resource in (GPU, TPU):
        if resource in limits and resource not in tolerated:
            yield Finding(file, 0, f"{name}: no toleration for the taint {resource}", "without it the pod never starts")
    if GPU in limits:
        yield from _compare(file, name, selector, GPU_LABEL, gpu_pool.get("accelerator", ""))
    if TPU in limits:
        machine = tpu_pool.get("machine_type", "")
        label = LABEL_OF_MACHINE.get("-".join(machine.split("-")[:2]), f"none: {machine} is unknown")
        yield from _compare(file, name, selector, TPU_LABEL, label)
        yield from _compare(file, name, selector, TOPOLOGY_LABEL, tpu_pool.get("topology", ""))
        chips = math.prod(int(side) for side in tpu_pool.get("topology", "1").split("x"))
        on_host = min(chips, int(tpu_pool.get("chips_per_host", "1")))
        if int(limits[TPU]) != on_host:
            what = f"{name}: asks for {limits[TPU]} of {TPU}, a host of the pool has {on_host}"
            yield Finding(file, 0, what, "a pod gets all chips of a host or none")
    elif TPU_LABEL in selector or TOPOLOGY_LABEL in selector:
        yield Finding(file, 0, f"{name}: selects TPU nodes without asking for {TPU}", f"add {TPU} to the limits")


def _limits_of(container: Mapping[str, Any]) -> dict[str, str]:
    return dict((container.get("resources") or {}).get("limits") or {})


def _compare(file: str, name: str, selector: Mapping[str, str], label: str, wanted: str) -> Iterator[Finding]:
    given = selector.get(label)
    if given != wanted:
        what = f"{name}: node selector {label} is {given or 'missing'}"
        yield Finding(file, 0, what, f"terraform's pool has {wanted}; where you have another, change both")
