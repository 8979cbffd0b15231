"""Tasks on Vertex AI Pipelines: as containers, or as CustomJobs where a container cannot say what is asked.

A TPU, several machines, a spot machine, a time limit, labels, a machine type and a service account are a CustomJob's.
Its component is the step's, but what runs in the pipeline is a launcher (Google Cloud Pipeline Components') that sends
the step's container as the job's worker and waits for it.
"""

import json
from collections.abc import Mapping
from typing import Any

from bertline.pipelines.placing.on_kubeflow import BACKOFF, list_variables
from bertline.pipelines.placing.resources import ACCELERATORS, Resources, name_slice, pairs

LAUNCHER = "gcr.io/ml-pipeline/google-cloud-pipeline-components:2.22.0"
LAUNCH = ["python3", "-u", "-m", "google_cloud_pipeline_components.container.v1.custom_job.launcher"]
OF_A_JOB = ("spot", "timeout_hours", "labels", "machine_type", "service_account")
# What the launcher is told beside the step's own inputs: where to make the job, and what the run has that a job would
# not have of itself. Vertex AI fills in the placeholders.
PLACE = {
    "project": "{{$.pipeline_google_cloud_project_id}}",
    "location": "{{$.pipeline_google_cloud_location}}",
}
OF_THE_RUN = {
    "service_account": "{{$.pipeline_service_account}}",
    "network": "{{$.pipeline_network}}",
    "encryption_key": "{{$.pipeline_encryption_key_name}}",
}
MACHINES = (4, 8, 16, 32, 64, 96)  # processors of the sizes that n2-standard and n2-highmem share
FAMILIES = {"n2-standard": 4, "n2-highmem": 8}  # -> GB for each processor
DISK = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 200}


def place_on_vertex(
    component: Any, title: str, given: Resources, arguments: Mapping[str, Any], *, region: str = ""
) -> Any:
    """The task of a component; ValueError for what Vertex AI cannot be told, and for a region without such TPUs."""
    _require_expressible(title, given, region)
    tpu = bool(given.accelerator) and ACCELERATORS[given.accelerator].is_tpu
    if tpu or given.hosts > 1 or any(getattr(given, field) for field in OF_A_JOB):
        task = as_custom_job(component, title, given)(**arguments)
    else:
        task = component(**arguments).set_cpu_limit(str(given.cpu)).set_memory_limit(f"{given.memory_gb}G")
        if given.accelerator:
            task.set_accelerator_type(ACCELERATORS[given.accelerator].vertex)
            task.set_accelerator_limit(given.accelerator_count or 1)
        for name, value in list_variables(given).items():
            task.set_env_variable(name, value)
    task.set_display_name(title).set_caching_options(False)  # steps find by content what was made
    return task.set_retry(given.retries, **BACKOFF) if given.retries else task


def as_custom_job(component: Any, title: str, given: Resources) -> Any:
    """The component whose container is sent as the worker of a CustomJob."""
    import yaml
    from google.protobuf import json_format
    from kfp import components

    spec = json_format.MessageToDict(component.pipeline_spec)
    (executor,) = spec["deploymentSpec"]["executors"].values()
    (definition,) = spec["components"].values()
    told = {**PLACE, **OF_THE_RUN, "worker_pool_specs": _worker_pools(executor["container"], given)}
    told["service_account"] = given.service_account or told["service_account"]
    for described in (definition, spec["root"]):
        parameters = described.setdefault("inputDefinitions", {}).setdefault("parameters", {})
        parameters |= {name: _describe_input(value) for name, value in told.items()}
        outputs = described.setdefault("outputDefinitions", {}).setdefault("parameters", {})
        outputs["gcp_resources"] = {"parameterType": "STRING"}
    executor["container"] = {"image": LAUNCHER, "command": LAUNCH, "args": _launch_arguments(title, given)}
    return components.load_component_from_text(yaml.safe_dump(spec))


def _worker_pools(container: Mapping[str, Any], given: Resources) -> list[dict[str, Any]]:
    """The first host's, and that of the others; a slice of TPUs is one: Vertex AI makes the hosts of its topology."""
    first = _worker_pool(container, given, 1)
    if given.hosts == 1 or given.is_slice:
        return [first]
    return [first, _worker_pool(container, given, given.hosts - 1)]


def _worker_pool(container: Mapping[str, Any], given: Resources, machines: int) -> dict[str, Any]:
    return {
        "machine_spec": choose_machine(given),
        "replica_count": machines,
        "disk_spec": DISK,
        "container_spec": {
            "image_uri": container["image"],
            # The executor's input goes into a text of JSON.
            **{
                part: ["{{$.json_escape[1]}}" if word == "{{$}}" else word for word in container.get(part, [])]
                for part in ("command", "args")
            },
            "env": [{"name": name, "value": value} for name, value in list_variables(given).items()],
        },
    }


def choose_machine(given: Resources) -> dict[str, Any]:
    """A MachineSpec of Vertex AI: the accelerator's machine, or the smallest with processors and memory enough."""
    if not given.accelerator:
        return {"machine_type": given.machine_type or _machine_of(given.cpu, given.memory_gb)}
    kind, count = ACCELERATORS[given.accelerator], given.accelerator_count or 1
    machine = {"machine_type": given.machine_type or kind.machines[count]}
    if given.is_slice:
        return {**machine, "tpu_topology": name_slice(given)}
    if kind.is_tpu:
        return {**machine, "tpu_topology": given.topology or kind.topologies[count]}
    return {**machine, "accelerator_type": kind.vertex, "accelerator_count": count}


def _machine_of(cpu: int, memory_gb: int) -> str:
    for processors in MACHINES:
        for family, memory in FAMILIES.items():
            if processors >= cpu and processors * memory >= memory_gb:
                return f"{family}-{processors}"
    raise ValueError(f"no machine has {cpu} processors with {memory_gb} GB; set machine_type")


def _describe_input(value: Any) -> dict[str, Any]:
    kind = "STRING" if isinstance(value, str) else "LIST"
    return {"defaultValue": value, "isOptional": True, "parameterType": kind}


def _launch_arguments(title: str, given: Resources) -> list[str]:
    """Arguments of the launcher: the CustomJob as JSON, with a placeholder for its workers."""
    scheduling: dict[str, Any] = {"strategy": "SPOT" if given.spot else "STANDARD"}
    if given.spot:
        scheduling["restart_job_on_worker_restart"] = True
    if given.timeout_hours:
        scheduling["timeout"] = f"{round(given.timeout_hours * 3600)}s"
    account, network, key = map(_input, OF_THE_RUN)
    workers = _input("worker_pool_specs")
    job = {
        "display_name": title,
        "job_spec": {
            "worker_pool_specs": workers,
            "scheduling": scheduling,
            "service_account": account,
            "network": network,
        },
        "labels": pairs("labels", given.labels),
        "encryption_spec": {"kms_key_name": key},
    }
    payload = json.dumps(job).replace(f'"{workers}"', workers)  # a list, when it is filled in
    place = [word for name in PLACE for word in (f"--{name}", _input(name))]
    resources = "{{$.outputs.parameters['gcp_resources'].output_file}}"
    return ["--type", "CustomJob", "--payload", payload, *place, "--gcp_resources", resources]


def _input(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _require_expressible(title: str, given: Resources, region: str) -> None:
    for field in ("node_pool", "secrets", "volumes"):
        if value := getattr(given, field):
            shown = value if isinstance(value, str) else ", ".join(value)
            raise ValueError(f"{field} of {title} is {shown}: Vertex AI has none; it is a setting for Kubeflow")
    if not given.accelerator:
        return
    kind = ACCELERATORS[given.accelerator]
    if not kind.machines:
        named = ", ".join(name for name, each in ACCELERATORS.items() if each.machines)
        raise ValueError(f"accelerator of {title} is {given.accelerator}: Vertex AI wants its name, one of {named}")
    if region and kind.regions and region not in kind.regions:
        raise ValueError(
            f"accelerator of {title} is {given.accelerator}, which {region} does not have; "
            f"it is in {', '.join(kind.regions)}"
        )
