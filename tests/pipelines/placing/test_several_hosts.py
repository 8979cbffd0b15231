"""A training on several hosts, as Kubeflow Trainer reads it."""

from typing import Any

import pytest

from bertline.pipelines.cli.main import VERBS
from bertline.pipelines.cli.verbs import FlagParser
from bertline.pipelines.placing.resources import Resources
from bertline.pipelines.placing.several_hosts import write_train_job

FLAGS = ["--records=/bertline/records_128", "--vocab=/bertline/vocab.txt", "--out=/bertline/checkpoint_128"]
SLICE = Resources(
    cpu=24,
    memory_gb=48,
    accelerator="tpu-v5e",
    spot=True,
    retries=3,
    timeout_hours=24,
    env=("BERTLINE_LOG=x",),
    secrets=("TOKEN=hub:token", "/keys=key-files"),
    volumes=("/scratch=scratch",),
    labels=("team=language",),
)


def write(given: Resources = SLICE, hosts: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    runtime, job = write_train_job("bert", "image:1", given, hosts, FLAGS)
    return runtime["spec"], job["spec"]


def test_each_host_runs_the_same_command_and_is_told_its_number() -> None:
    runtime, job = write()
    trainer = job["trainer"]
    assert (trainer["image"], trainer["numNodes"], runtime["mlPolicy"]) == ("image:1", 4, {"numNodes": 4, "jax": {}})
    assert trainer["command"] + trainer["args"] == [
        *("python3", "-m", "bertline", "pretrain"),
        *FLAGS,
        *("--backend=jax", "--host=$(JAX_PROCESS_ID)", "--coordinator=$(JAX_COORDINATOR_ADDRESS)"),
        *("--hosts=4", "--devices=16"),
    ]
    assert job["activeDeadlineSeconds"] == 86400


def test_the_command_is_one_of_the_program() -> None:
    verb, *flags = write()[1]["trainer"]["args"]
    filled = [flag.replace("$(JAX_PROCESS_ID)", "0").replace("$(JAX_COORDINATOR_ADDRESS)", "host:1") for flag in flags]
    parser = FlagParser()
    VERBS[verb].add_flags(parser)
    parsed = parser.parse_args([*filled, "--model=tiny"])
    assert (parsed.hosts, parsed.devices, parsed.host, parsed.coordinator) == ("4", "16", "0", "host:1")


def test_the_machines_are_a_slice_of_tpus() -> None:
    runtime, job = write()
    (hosts,) = runtime["template"]["spec"]["replicatedJobs"]
    pod = hosts["template"]["spec"]["template"]
    assert job["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "24", "memory": "48G", "google.com/tpu": "4"}
    assert pod["spec"]["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert [each["key"] for each in pod["spec"]["tolerations"]] == ["google.com/tpu", "cloud.google.com/gke-spot"]
    mounts = {each["mountPath"]: each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts == {"/bertline": "claim-0", "/scratch": "claim-1", "/keys": "secret-0"}
    assert {each["name"] for each in pod["spec"]["volumes"]} == set(mounts.values())
    assert [each["name"] for each in job["trainer"]["env"]] == ["KERAS_BACKEND", "BERTLINE_LOG", "TOKEN"]
    assert pod["metadata"]["labels"] == {"team": "language"}


def test_refused_input_ends_the_job_and_all_else_begins_it_again() -> None:
    job_set = write()[0]["template"]["spec"]
    (hosts,) = job_set["replicatedJobs"]
    (rule,) = hosts["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule == {
        "action": "FailJob", "onExitCodes": {"containerName": "node", "operator": "In", "values": [2]},
    }  # fmt: skip
    assert job_set["failurePolicy"]["maxRestarts"] == 3
    assert job_set["failurePolicy"]["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_gpus_are_on_any_number_of_hosts() -> None:
    _, job = write(Resources(accelerator="gpu-a100", accelerator_count=8), hosts=3)
    assert job["trainer"]["args"][-2:] == ["--hosts=3", "--devices=24"]
    assert job["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "8"


def test_hosts_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match=r"hosts is 3; of tpu-v5e there are slices of 4, 8, 16, 32, 64 machines"):
        write(hosts=3)
    with pytest.raises(ValueError, match="hosts is 1; a TrainJob is for at least 2"):
        write(hosts=1)
    with pytest.raises(ValueError, match="machine_type of bert is n2"):
        write(Resources(machine_type="n2"))


def test_kubeflow_trainers_models_know_every_field() -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    for document in write_train_job("bert", "image:1", SLICE, 4, FLAGS):
        model = getattr(models, f"TrainerV1alpha1{document['kind']}")
        assert drop_empty(model.from_dict(document).to_dict()) == drop_empty(document)


def drop_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: drop_empty(each) for key, each in value.items() if each not in (None, [])}
    return [drop_empty(each) for each in value] if isinstance(value, list) else value
