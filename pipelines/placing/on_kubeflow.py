"""Tasks on Kubeflow Pipelines: requests and limits, nodes of GKE, volumes and secrets."""

from collections.abc import Mapping
from typing import Any

from bertline.pipelines.placing.resources import ACCELERATORS, Resources, name_slice, pairs
from bertline.settings import BACKEND_VARIABLE

MOUNT = "/bertline"  # where the claim of the store is mounted
CLAIM = "bertline-store"  # ReadWriteMany
GPU, TPU, SPOT = "nvidia.com/gpu", "google.com/tpu", "cloud.google.com/gke-spot"
BACKOFF = {"backoff_duration": "60s", "backoff_factor": 2.0, "backoff_max_duration": "3600s"}


def place_on_kubeflow(
    component: Any, title: str, given: Resources, arguments: Mapping[str, Any], *, store: str = MOUNT
) -> Any:
    """The task of a component; ValueError for what Kubeflow Pipelines cannot be told of a task.

    A store below MOUNT is a claim's. A task that fails is begun again whatever its exit code: the retry policy of KFP
    2.17 has no condition. It is for processes that ended; a pod lost with its node is the service's own matter.
    """
    from kfp import kubernetes

    require_expressible(title, given)
    _require_one_pod(title, given)
    task = component(**arguments).set_display_name(title)
    task.set_caching_options(False)  # steps find by content what was made
    for set_quantity in (task.set_cpu_request, task.set_cpu_limit):
        set_quantity(str(given.cpu))
    for set_quantity in (task.set_memory_request, task.set_memory_limit):
        set_quantity(f"{given.memory_gb}G")
    if given.retries:
        task.set_retry(given.retries, **BACKOFF)
    if given.accelerator:
        task.set_accelerator_type(name_accelerator(given)).set_accelerator_limit(given.accelerator_count or 1)
    for name, value in list_node_labels(given).items():
        kubernetes.add_node_selector(task, name, value)
    for toleration in list_tolerations(given):
        kubernetes.add_toleration(task, **toleration)
    if given.timeout_hours:
        kubernetes.set_timeout(task, round(given.timeout_hours * 3600))
    for name, value in list_variables(given).items():
        task.set_env_variable(name, value)
    for name, value in pairs("labels", given.labels).items():
        kubernetes.add_pod_label(task, name, value)
    _mount(task, given, store)
    return task


def _require_one_pod(title: str, given: Resources) -> None:
    if given.hosts > 1:
        raise ValueError(
            f"hosts of {title} is {given.hosts}: a task of Kubeflow Pipelines is one pod; `bertline compile "
            "--platform=trainjob` writes a training on several machines, and Vertex AI takes them (--to=vertex)"
        )


def list_variables(given: Resources) -> dict[str, str]:
    """A task's variables; on an accelerator JAX computes where they do not say otherwise."""
    return ({BACKEND_VARIABLE: "jax"} if given.accelerator else {}) | pairs("env", given.env)


def require_expressible(title: str, given: Resources) -> None:
    """Refuse what is a setting for Vertex AI."""
    reasons = {
        "machine_type": "Kubernetes finds a node for what is asked; set cpu, memory_gb, accelerator or node_pool",
        "service_account": "on Kubeflow a whole run has one service account",
    }
    for field, reason in reasons.items():
        if getattr(given, field):
            raise ValueError(f"{field} of {title} is {getattr(given, field)}: {reason}")


def name_accelerator(given: Resources) -> str:
    """What Kubernetes calls it."""
    return TPU if ACCELERATORS[given.accelerator].is_tpu else GPU


def list_node_labels(given: Resources) -> dict[str, str]:
    """Labels that a node of GKE must have."""
    labels = {}
    if given.accelerator:
        kind, count = ACCELERATORS[given.accelerator], given.accelerator_count or 1
        if kind.is_tpu:
            labels["cloud.google.com/gke-tpu-accelerator"] = kind.gke
            labels["cloud.google.com/gke-tpu-topology"] = (
                name_slice(given) if given.is_slice else given.topology or kind.topologies[count]
            )
        elif kind.gke:
            labels["cloud.google.com/gke-accelerator"] = kind.gke
    if given.node_pool:
        labels["cloud.google.com/gke-nodepool"] = given.node_pool
    return labels | ({SPOT: "true"} if given.spot else {})


def list_tolerations(given: Resources) -> list[dict[str, str]]:
    """Taints of such nodes that a pod may ignore."""
    own = {"key": name_accelerator(given), "operator": "Exists", "effect": "NoSchedule"} if given.accelerator else None
    spot = {"key": SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"} if given.spot else None
    return [each for each in (own, spot) if each]


def _mount(task: Any, given: Resources, store: str) -> None:
    from kfp import kubernetes

    if store == MOUNT or store.startswith(f"{MOUNT}/"):
        kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=MOUNT)
    for path, claim in pairs("volumes", given.volumes).items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=path)
    for name, secret in pairs("secrets", given.secrets).items():
        if name.startswith("/"):
            kubernetes.use_secret_as_volume(task, secret_name=secret, mount_path=name)
        else:
            secret_name, _, key = secret.partition(":")
            kubernetes.use_secret_as_env(task, secret_name=secret_name, secret_key_to_env={key: name})
