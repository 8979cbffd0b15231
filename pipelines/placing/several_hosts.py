"""A training on several machines of Kubernetes: a TrainJob of Kubeflow Trainer that runs one command on each.

Tasks of Kubeflow Pipelines are single pods, which find no one another. Beside the TrainJob stands the runtime that it
refers to: in it exit code 2, refused input, ends the job, and any other failure, a machine that was taken away (75)
among them, begins all hosts again, which go on from the last snapshot.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bertline.pipelines.placing.on_kubeflow import (
    CLAIM,
    MOUNT,
    list_node_labels,
    list_tolerations,
    list_variables,
    name_accelerator,
    require_expressible,
)
from bertline.pipelines.placing.resources import CHIPS_OF_SLICES, Resources, pairs

API = "trainer.kubeflow.org/v1alpha1"
BAD_INPUT = 2  # exit code of refused input
GRACE_SECONDS = 120  # to save after SIGTERM
# The variables are set by the runtime's plug-in for JAX; Kubernetes puts their values into arguments.
OF_EACH_HOST = ["--backend=jax", "--host=$(JAX_PROCESS_ID)", "--coordinator=$(JAX_COORDINATOR_ADDRESS)"]


def write_train_job(name: str, image: str, given: Resources, hosts: int, flags: Sequence[str]) -> list[dict[str, Any]]:
    """The TrainingRuntime and the TrainJob of `bertline pretrain FLAGS`, with `given` on each of the hosts.

    The flags' files lie below /bertline, the store's claim, which all hosts mount. Raises ValueError for a number of
    hosts that cannot be, and for resources that Kubernetes does not have.
    """
    if hosts < 2:
        raise ValueError(f"hosts is {hosts}; a TrainJob is for at least 2, one is a task of the pipeline")
    require_expressible(name, given)
    given = dataclasses.replace(given, hosts=hosts)
    if given.is_slice:
        given = dataclasses.replace(given, accelerator_count=CHIPS_OF_SLICES)
    devices = hosts * (given.accelerator_count or 1)
    arguments = ["pretrain", *flags, *OF_EACH_HOST, f"--hosts={hosts}", f"--devices={devices}"]
    deadline = {"activeDeadlineSeconds": round(given.timeout_hours * 3600)} if given.timeout_hours else {}
    job = {
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": {"name": name},
        "spec": {
            "runtimeRef": {"apiGroup": API.partition("/")[0], "kind": "TrainingRuntime", "name": name},
            "trainer": {
                "image": image,
                "command": ["python3", "-m", "bertline"],
                "args": arguments,
                "numNodes": hosts,
                "resourcesPerNode": _list_resources(given),
                "env": _list_env(given),
            },
            **deadline,
        },
    }
    return [_write_runtime(name, image, given), job]


def _write_runtime(name: str, image: str, given: Resources) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": list_node_labels(given),
        "tolerations": list_tolerations(given),
        "containers": [{"name": "node", "image": image, "volumeMounts": _list_mounts(given)}],
        "volumes": _list_volumes(given),
    }
    refused = {"containerName": "node", "operator": "In", "values": [BAD_INPUT]}
    hosts_job = {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": refused}]},
        "template": {"metadata": {"labels": pairs("labels", given.labels)}, "spec": pod},
    }
    labels = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    job_set = {
        "failurePolicy": {
            "maxRestarts": given.retries,
            "rules": [{"name": "refused", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
        },
        "replicatedJobs": [{"name": "node", "template": {"metadata": {"labels": labels}, "spec": hosts_job}}],
    }
    return {
        "apiVersion": API,
        "kind": "TrainingRuntime",
        "metadata": {"name": name, "labels": {"trainer.kubeflow.org/framework": "jax"}},
        "spec": {"mlPolicy": {"numNodes": given.hosts, "jax": {}}, "template": {"spec": job_set}},
    }


def _list_resources(given: Resources) -> dict[str, Any]:
    asked = {"cpu": str(given.cpu), "memory": f"{given.memory_gb}G"}
    if given.accelerator:
        asked[name_accelerator(given)] = str(given.accelerator_count or 1)
    return {"requests": asked, "limits": asked}


def _list_env(given: Resources) -> list[dict[str, Any]]:
    plain = [{"name": name, "value": value} for name, value in list_variables(given).items()]
    return plain + [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": secret.partition(":")[0], "key": secret.partition(":")[2]}},
        }
        for name, secret in _secrets(given, files=False).items()
    ]


def _secrets(given: Resources, *, files: bool) -> Mapping[str, str]:
    return {name: value for name, value in pairs("secrets", given.secrets).items() if name.startswith("/") is files}


def _list_claims(given: Resources) -> dict[str, str]:
    return {MOUNT: CLAIM} | pairs("volumes", given.volumes)


def _list_volumes(given: Resources) -> list[dict[str, Any]]:
    claims = [
        {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}}
        for number, claim in enumerate(_list_claims(given).values())
    ]
    secrets = [
        {"name": f"secret-{number}", "secret": {"secretName": secret}}
        for number, secret in enumerate(_secrets(given, files=True).values())
    ]
    return claims + secrets


def _list_mounts(given: Resources) -> list[dict[str, str]]:
    paths = {"claim": _list_claims(given), "secret": _secrets(given, files=True)}
    return [
        {"name": f"{kind}-{number}", "mountPath": path} for kind in paths for number, path in enumerate(paths[kind])
    ]
