"""What each platform gives a task: resources, and the shared store."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Platform:
    """How tasks are placed; the graph itself is the same everywhere."""

    name: str
    store: str  # default value of the pipeline's store there
    on_data_machine: Callable[[Any, str], Any]  # task and its title on the platform's page -> the task
    on_training_machine: Callable[[Any, str], Any]


def _stay_here(task: Any, title: str) -> Any:
    """This machine: no request to make, and no page that would show the title."""
    return task


def _place_on_kubeflow_cpu(task: Any, title: str) -> Any:
    return _mount_store(task.set_display_name(title).set_cpu_request("4").set_memory_request("16G"))


def _place_on_kubeflow_gpu(task: Any, title: str) -> Any:
    """A node with one GPU; the step resumes from its checkpoints after a preemption."""
    task.set_display_name(title).set_cpu_request("8").set_memory_request("32G")
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    return _mount_store(task.set_retry(3, backoff_duration="60s", backoff_factor=2.0))


def _mount_store(task: Any) -> Any:
    """The store: a ReadWriteMany claim named bertline-store, mounted in every task."""
    from kfp import kubernetes

    return kubernetes.mount_pvc(task, pvc_name="bertline-store", mount_path="/bertline")


def _place_on_vertex_cpu(task: Any, title: str) -> Any:
    return task.set_display_name(title).set_cpu_limit("4").set_memory_limit("16G")


def _place_on_vertex_gpu(task: Any, title: str) -> Any:
    task.set_display_name(title).set_cpu_limit("8").set_memory_limit("32G")
    task.set_accelerator_type("NVIDIA_TESLA_T4").set_accelerator_limit(1)
    return task.set_retry(3, backoff_duration="60s", backoff_factor=2.0)


LOCAL = Platform("local", "out/store", _stay_here, _stay_here)
KUBEFLOW = Platform("kfp", "/bertline/store", _place_on_kubeflow_cpu, _place_on_kubeflow_gpu)
# The store is a bucket, mounted by Cloud Storage FUSE.
VERTEX = Platform("vertex", "/gcs/BUCKET/bertline/store", _place_on_vertex_cpu, _place_on_vertex_gpu)
PLATFORMS = {platform.name: platform for platform in (LOCAL, KUBEFLOW, VERTEX)}
