"""What the compiled documents say of a task's place, on Kubeflow and on Vertex AI."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from bertline.pipelines.placing.resources import Resources
from bertline.pipelines.platforms import Platform, kubeflow, vertex

FIRST = "exec-pretrain"


def compile_task(platform: Platform, folder: Path) -> list[dict[str, Any]]:
    """The documents of a graph of one training."""

    @dsl.pipeline(name="graph")
    def graph(store: str) -> None:
        records = dsl.importer(artifact_uri="gs://bucket/records", artifact_class=dsl.Dataset).output
        arguments = {"run": "run", "config": {}, "name": "pretrain_128"}
        platform.add_task("pretrain", "pretrain_128", store=store, records=records, **arguments)

    compiler.Compiler().compile(graph, str(folder / "graph.yaml"))
    return list(yaml.safe_load_all((folder / "graph.yaml").read_text()))


def on_kubeflow(given: Resources, folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The task, its container, and what its pod has."""
    pipeline, cluster = compile_task(kubeflow({"pretrain_128": given}), folder)
    pods = cluster["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return pipeline["root"]["dag"]["tasks"]["pretrain"], pipeline["deploymentSpec"]["executors"][FIRST], pods[FIRST]


def on_vertex(given: Resources, folder: Path, region: str = "us-central1") -> tuple[dict[str, Any], dict[str, Any]]:
    """The task and its container, of the one document that Vertex AI's client reads."""
    (pipeline,) = compile_task(vertex({"pretrain_128": given}, region=region), folder)
    container = pipeline["deploymentSpec"]["executors"][FIRST]["container"]
    return pipeline["root"]["dag"]["tasks"]["pretrain"], {
        **container,
        "inputs": pipeline["components"]["comp-pretrain"],
    }


def read_job(container: dict[str, Any]) -> Any:
    """The CustomJob that the launcher sends, as Vertex AI's own message."""
    from google.cloud import aiplatform_v1

    payload = container["args"][container["args"].index("--payload") + 1]
    for name, each in container["inputs"]["inputDefinitions"]["parameters"].items():
        value = each.get("defaultValue", "")
        shown = value if isinstance(value, str) else json.dumps(value)
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", shown)
    filled = json.loads(payload)
    return aiplatform_v1.CustomJob.from_json(json.dumps(filled))


def test_a_pod_gets_what_its_task_asks_for(tmp_path: Path) -> None:
    given = Resources(
        cpu=8,
        memory_gb=32,
        accelerator="gpu-l4",
        retries=3,
        timeout_hours=1.5,
        spot=True,
        node_pool="trainers",
        env=("BERTLINE_LOG=x",),
        secrets=("TOKEN=hub:token", "/keys=key-files"),
        volumes=("/scratch=scratch",),
        labels=("team=language",),
    )
    task, executor, pod = on_kubeflow(given, tmp_path)
    container = executor["container"]
    resources = container["resources"]
    assert task["cachingOptions"] == {}
    assert task["retryPolicy"] == {
        "backoffDuration": "60s", "backoffFactor": 2.0, "backoffMaxDuration": "3600s", "maxRetryCount": 3,
    }  # fmt: skip
    assert resources["resourceCpuRequest"] == resources["resourceCpuLimit"] == "8"
    assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"] == "32G"
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert {each["name"]: each["value"] for each in container["env"]} == {"KERAS_BACKEND": "jax", "BERTLINE_LOG": "x"}
    assert pod["nodeSelector"]["labels"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-nodepool": "trainers",
        "cloud.google.com/gke-spot": "true",
    }
    assert {each["key"]: each["operator"] for each in pod["tolerations"]} == {
        "nvidia.com/gpu": "Exists",
        "cloud.google.com/gke-spot": "Equal",
    }
    assert pod["activeDeadlineSeconds"] == "5400"
    assert {each["mountPath"] for each in pod["pvcMount"]} == {"/bertline", "/scratch"}
    assert pod["secretAsEnv"][0]["keyToEnv"] == [{"envVar": "TOKEN", "secretKey": "token"}]
    assert pod["secretAsVolume"][0]["mountPath"] == "/keys"
    assert pod["podMetadata"]["labels"] == {"team": "language"}


def test_a_tpu_of_gke_is_asked_for_by_its_kind_and_topology(tmp_path: Path) -> None:
    _, executor, pod = on_kubeflow(Resources(accelerator="tpu-v5e", accelerator_count=4), tmp_path)
    accelerator = executor["container"]["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("google.com/tpu", "4")
    assert pod["nodeSelector"]["labels"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    assert pod["tolerations"][0] == {"effect": "NoSchedule", "key": "google.com/tpu", "operator": "Exists"}


def test_a_store_in_a_bucket_needs_no_claim(tmp_path: Path) -> None:
    documents = compile_task(kubeflow({"pretrain_128": Resources()}, "gs://bucket/store"), tmp_path)
    assert len(documents) == 1


def test_a_tpu_of_vertex_is_a_custom_job(tmp_path: Path) -> None:
    given = Resources(
        accelerator="tpu-v5e",
        accelerator_count=4,
        spot=True,
        retries=3,
        timeout_hours=24,
        env=("BERTLINE_LOG=x",),
        labels=("team=language",),
        service_account="trainer@project.iam.gserviceaccount.com",
    )
    task, container = on_vertex(given, tmp_path)
    job = read_job(container)
    (pool,) = job.job_spec.worker_pool_specs
    assert container["image"].startswith("gcr.io/ml-pipeline/google-cloud-pipeline-components:")
    assert task["cachingOptions"] == {}
    assert task["retryPolicy"]["maxRetryCount"] == 3
    assert (pool.machine_spec.machine_type, pool.machine_spec.tpu_topology) == ("ct5lp-hightpu-4t", "2x2")
    assert pool.replica_count == 1
    assert pool.container_spec.image_uri == "bertline-python:latest"
    assert "perform_step" in pool.container_spec.command[-1]
    assert "{{$.json_escape[1]}}" in pool.container_spec.args
    assert {each.name: each.value for each in pool.container_spec.env} == {
        "KERAS_BACKEND": "jax",
        "BERTLINE_LOG": "x",
    }
    assert job.job_spec.scheduling.strategy.name == "SPOT"
    assert job.job_spec.scheduling.restart_job_on_worker_restart
    assert job.job_spec.scheduling.timeout.total_seconds() == 86400
    assert job.job_spec.service_account == "trainer@project.iam.gserviceaccount.com"
    assert job.job_spec.network == "{{$.pipeline_network}}", "the run's"
    assert job.encryption_spec.kms_key_name == "{{$.pipeline_encryption_key_name}}"
    assert (job.display_name, dict(job.labels)) == ("pretrain_128", {"team": "language"})


def test_a_slice_of_tpus_is_one_pool_of_vertex(tmp_path: Path) -> None:
    """Vertex AI makes the machines of its topology, and JAX knows them."""
    _, container = on_vertex(Resources(accelerator="tpu-v5e", accelerator_count=4, hosts=4), tmp_path)
    (pool,) = read_job(container).job_spec.worker_pool_specs
    assert (pool.machine_spec.machine_type, pool.machine_spec.tpu_topology) == ("ct5lp-hightpu-4t", "4x4")
    assert pool.replica_count == 1


def test_machines_with_gpus_are_two_pools_of_vertex(tmp_path: Path) -> None:
    _, container = on_vertex(Resources(accelerator="gpu-a100", accelerator_count=8, hosts=3), tmp_path)
    first, others = read_job(container).job_spec.worker_pool_specs
    assert (first.replica_count, others.replica_count) == (1, 2)
    assert (first.machine_spec, first.container_spec) == (others.machine_spec, others.container_spec)


def test_a_task_of_kubeflow_is_on_one_machine(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hosts of pretrain_128 is 2: a task of Kubeflow Pipelines is one pod"):
        on_kubeflow(Resources(hosts=2), tmp_path)


def test_a_custom_job_has_the_inputs_and_outputs_of_its_step(tmp_path: Path) -> None:
    given = {"pretrain_128": Resources(spot=True)}
    (as_job,) = compile_task(vertex(given), tmp_path)
    (as_container,) = compile_task(vertex({"pretrain_128": Resources()}), tmp_path)
    step, launched = (each["components"]["comp-pretrain"] for each in (as_container, as_job))
    assert step["outputDefinitions"]["artifacts"] == launched["outputDefinitions"]["artifacts"]
    assert step["inputDefinitions"]["artifacts"] == launched["inputDefinitions"]["artifacts"]
    assert set(step["inputDefinitions"]["parameters"]) < set(launched["inputDefinitions"]["parameters"])
    assert set(launched["outputDefinitions"]["parameters"]) == {"gcp_resources"}


@pytest.mark.parametrize(
    ("given", "machine"),
    [
        (Resources(spot=True), "n2-standard-4"),
        (Resources(spot=True, cpu=10, memory_gb=100), "n2-highmem-16"),
        (Resources(spot=True, machine_type="c3-standard-8"), "c3-standard-8"),
        (Resources(spot=True, accelerator="gpu-a100", accelerator_count=8), "a2-highgpu-8g"),
    ],
)
def test_a_custom_jobs_machine_suits_what_is_asked(given: Resources, machine: str, tmp_path: Path) -> None:
    _, container = on_vertex(given, tmp_path)
    spec = read_job(container).job_spec.worker_pool_specs[0].machine_spec
    assert spec.machine_type == machine
    assert spec.accelerator_count == given.accelerator_count
    assert read_job(container).job_spec.service_account == "{{$.pipeline_service_account}}", "the run's"


def test_a_gpu_of_vertex_needs_no_custom_job(tmp_path: Path) -> None:
    _, container = on_vertex(Resources(accelerator="gpu-t4", env=("A=b",)), tmp_path)
    assert container["resources"]["accelerator"]["resourceType"] == "NVIDIA_TESLA_T4"
    assert {each["name"] for each in container["env"]} == {"KERAS_BACKEND", "A"}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("node_pool", "trainers", "node_pool of pretrain_128 is trainers: Vertex AI has none"),
        ("volumes", ("/scratch=claim",), "volumes of pretrain_128 is /scratch=claim"),
        ("secrets", ("A=b:c",), "secrets of pretrain_128"),
        ("accelerator", "gpu", "accelerator of pretrain_128 is gpu: Vertex AI wants its name, one of gpu-t4"),
        ("accelerator", "tpu-v5e", "which europe-north1 does not have; it is in us-central1"),
    ],
)
def test_what_vertex_does_not_have_is_named(field: str, value: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        on_vertex(replace(Resources(), **{field: value}), tmp_path, region="europe-north1")


@pytest.mark.parametrize("field", ["machine_type", "service_account"])
def test_what_kubeflow_does_not_have_is_named(field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{field} of pretrain_128 is some"):
        on_kubeflow(replace(Resources(), **{field: "some"}), tmp_path)
