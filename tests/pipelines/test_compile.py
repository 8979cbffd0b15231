from dataclasses import replace

import pytest
import yaml

from bertline.pipelines.cli.main import main
from bertline.pipelines.placing.resources import suggest_resources
from bertline.pipelines.platforms import LOCAL, vertex
from bertline.pipelines.pretraining import build_pipeline, compile_pipeline
from bertline.pipelines.run_local import count_steps


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("compiled")
    assert main(["compile", f"--out={folder}"]) == 0
    return {
        name: list(yaml.safe_load_all((folder / f"pretraining.{name}.yaml").read_text()))
        for name in ("local", "kfp", "vertex")
    }


def tasks_of(pipeline: dict) -> set[str]:
    return set(pipeline["root"]["dag"]["tasks"])


def test_the_graph_is_the_same_on_every_platform(compiled: dict[str, list[dict]]) -> None:
    graphs = [tasks_of(documents[0]) for documents in compiled.values()]
    assert graphs[0] == graphs[1] == graphs[2]
    assert {"ingest", "split", "vocab", "pretrain", "pretrain-2", "export", "draw-lineage"} <= graphs[0]
    assert {f"prepare{suffix}" for suffix in ("", "-2", "-3", "-4")} <= graphs[0]


def test_a_run_knows_how_many_steps_it_has() -> None:
    """Four prepare records, two pretrain, two evaluate; of the tasks each has one."""
    graph = build_pipeline(LOCAL)
    others = ["ingest", "split", "vocab", "export"]
    assert [count_steps(graph, tasks) for tasks in (0, 2)] == [len(others) + 8, len(others) + 10]


def test_stage_512_takes_the_checkpoint_of_stage_128(compiled: dict[str, list[dict]]) -> None:
    second = compiled["local"][0]["root"]["dag"]["tasks"]["pretrain-2"]["inputs"]["artifacts"]
    assert second["checkpoint"]["taskOutputArtifact"]["producerTask"] == "pretrain"
    assert second["records"]["taskOutputArtifact"]["producerTask"] == "prepare-2"


def test_each_stage_is_scored_on_held_out_records_of_its_length(compiled: dict[str, list[dict]]) -> None:
    tasks = compiled["local"][0]["root"]["dag"]["tasks"]
    for stage, records in (("pretrain", "heldout_128"), ("pretrain-2", "heldout_512")):
        producer = tasks[stage]["inputs"]["artifacts"]["heldout"]["taskOutputArtifact"]["producerTask"]
        name = tasks[producer]["inputs"]["parameters"]["name"]["runtimeValue"]["constant"]
        assert name == records


def test_vertex_gets_one_document_and_kubeflow_its_volumes(compiled: dict[str, list[dict]]) -> None:
    """Vertex's client refuses a second document."""
    assert len(compiled["vertex"]) == 1
    assert len(compiled["local"]) == 1
    pipeline, platform = compiled["kfp"]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(pipeline["deploymentSpec"]["executors"])
    assert all(each["pvcMount"][0]["mountPath"] == "/bertline" for each in executors.values())


def test_every_step_may_be_a_job_of_its_own(compiled: dict[str, list[dict]], tmp_path) -> None:
    """Vertex AI's CustomJobs, which spot machines are, have an output more."""
    plan = {step: replace(given, spot=True) for step, given in suggest_resources().items()}
    compile_pipeline(vertex(plan), str(tmp_path / "jobs.yaml"))
    (jobs,) = yaml.safe_load_all((tmp_path / "jobs.yaml").read_text())
    executors = jobs["deploymentSpec"]["executors"]
    assert {name for name, each in executors.items() if "CustomJob" not in each["container"]["args"]} == {
        "exec-draw-lineage"
    }
    for name, task in compiled["vertex"][0]["root"]["dag"]["tasks"].items():
        assert jobs["root"]["dag"]["tasks"][name]["inputs"] == task["inputs"]


def test_no_task_is_cached_by_a_cluster(compiled: dict[str, list[dict]]) -> None:
    """Steps find by content what was made, and say so."""
    for name in ("kfp", "vertex"):
        pipeline = compiled[name][0]
        graphs = [pipeline["root"], *(each for each in pipeline["components"].values() if "dag" in each)]
        tasks = {task: each for graph in graphs for task, each in graph["dag"]["tasks"].items()}
        assert {task for task, each in tasks.items() if each.get("cachingOptions") != {}} == {"for-loop-1"}


def test_training_asks_for_an_accelerator_only_on_clusters(compiled: dict[str, list[dict]]) -> None:
    def resources(name: str) -> dict:
        executors = compiled[name][0]["deploymentSpec"]["executors"]
        return executors["exec-pretrain"]["container"].get("resources", {})

    assert "accelerator" not in resources("local")
    assert resources("kfp")["accelerator"]["resourceCount"] == "1"
    assert resources("vertex")["accelerator"]["resourceCount"] == "1"
