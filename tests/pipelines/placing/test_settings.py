"""Resources by the table, and by the settings over it."""

from typing import Any

import pytest

from bertline.pipelines.placing.resources import Resources, suggest_resources
from bertline.pipelines.placing.settings import plan_resources, read_resource_flags, read_resource_table
from bertline.pipelines.run_settings import Run
from bertline.pipelines.step_settings import read_flags


def plan(flags: dict[str, str], **run: Any) -> dict[str, Resources]:
    return plan_resources(Run(**run), read_resource_flags(flags))


def test_the_table_goes_by_model_and_corpus() -> None:
    accelerators = {
        model: suggest_resources(model)["pretrain_128"].accelerator
        for model in ("tiny", "4/512", "6/512", "base", "large", "gs://bucket/bert_config.json")
    }
    assert accelerators == {
        "tiny": "gpu-t4",
        "4/512": "gpu-t4",
        "6/512": "gpu-l4",
        "base": "gpu-l4",
        "large": "gpu-a100",
        "gs://bucket/bert_config.json": "gpu-a100",
    }
    assert [suggest_resources("tiny", size)["split"].cpu for size in (0.05, 1, 20, 1000)] == [2, 4, 16, 32]


def test_flags_win_over_the_table_the_specific_ones_over_the_general_ones() -> None:
    found = plan(
        {
            "resources.pretrain_512.memory_gb": "64",
            "resources.pretrain.memory_gb": "48",
            "resources.spot": "true",
            "resources.corpus_gb": "20",
            "resources.evaluate.env": "A=1,B=2",
        },
        model="tiny",
    )
    assert [found[step].memory_gb for step in ("pretrain_128", "pretrain_512", "finetune")] == [48, 64, 15]
    assert all(found[step].spot for step in ("ingest", "export", "finetune"))
    assert found["evaluate"].env == ("A=1", "B=2")
    assert found["split"].cpu == 16


def test_a_files_tables_say_the_same() -> None:
    table = {"spot": True, "corpus_gb": 20.0, "pretrain": {"memory_gb": 48}, "pretrain_512": {"memory_gb": 64}}
    found = plan_resources(Run(model="tiny"), read_resource_table(table, "run.toml", typed=True))
    assert [found[step].memory_gb for step in ("pretrain_128", "pretrain_512")] == [48, 64]
    assert found["split"] == Resources(cpu=16, memory_gb=64, spot=True)


def test_there_are_as_many_accelerators_as_a_steps_devices() -> None:
    found = plan({"resources.accelerator": "tpu-v5e"}, devices=4, batch=32, backend="jax")
    assert [found[step].accelerator_count for step in ("pretrain_128", "evaluate", "split")] == [4, 1, 0]


def plan_hosts(hosts: int, devices: int, accelerator: str = "tpu-v5e") -> dict[str, Resources]:
    settings = read_flags({"pretrain.hosts": str(hosts)})
    run = Run(devices=devices, batch=devices, backend="jax", steps=tuple(settings))
    return plan_resources(run, read_resource_flags({"resources.accelerator": accelerator}))


def test_the_devices_of_several_hosts_are_shared_by_them() -> None:
    found = plan_hosts(4, 16)
    assert [(found[step].hosts, found[step].accelerator_count) for step in ("pretrain_512", "evaluate")] == [
        (4, 4),
        (1, 1),
    ]


@pytest.mark.parametrize(
    ("hosts", "devices", "named"),
    [
        (2, 8, "hosts is 2; of tpu-v5e there are slices of 4, 8, 16, 32, 64 machines"),
        (4, 32, "there are 8 tpu-v5e on each of 4 hosts; machines of slices have 4: set devices to 16"),
    ],
)
def test_slices_that_there_are_not_are_named(hosts: int, devices: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        plan_hosts(hosts, devices)


@pytest.mark.parametrize(
    ("flags", "run", "named"),
    [
        ({"resources.pretrain.acelerator": "x"}, {}, 'unknown setting "acelerator"; did you mean accelerator?'),
        ({"resources.pretrian.cpu": "4"}, {}, 'unknown step "pretrian"; did you mean pretrain?'),
        ({"resources.pretrain.accelerator": "tpu-v9"}, {}, 'resources of pretrain_128: accelerator is "tpu-v9"'),
        ({"resources.split.accelerator": "gpu-t4"}, {}, "--resources.split.accelerator: split computes on processors"),
        ({"resources.cpu": "many"}, {}, "--resources.cpu: cpu must be a whole number"),
        ({"resources.cpu": "0"}, {}, "resources of ingest: cpu is 0"),
        ({"resources.split.env": "A"}, {}, 'resources of split: env is "A"; give NAME=VALUE'),
        ({"resources.split.secrets": "A=b"}, {}, "give NAME=SECRET:KEY or /PATH=SECRET"),
        ({"resources.split.volumes": "a=b"}, {}, "give /PATH=CLAIM"),
        ({"resources.pretrain.accelerator_count": "4"}, {}, "the step computes on devices=1"),
        ({"resources.accelerator": "tpu-v5e"}, {"devices": 2}, "one machine has 1, 4, 8 of tpu-v5e"),
        ({"resources.accelerator": "tpu-v5e"}, {"backend": "tensorflow"}, "on which jax alone computes"),
        ({"resources.pretrain.topology": "4x4", "resources.accelerator": "tpu-v5e"}, {}, "1x1, 2x2, 2x4 with tpu-v5e"),
        ({"resources.pretrain.topology": "2x2"}, {}, "one machine has none with gpu-l4"),
        ({"resources.corpus_gb": "0"}, {}, "it must be greater than 0"),
        ({"resources.timeout_hours": "nan"}, {}, "timeout_hours is nan; it must be at least 0"),
        ({"resources.timeout_hours": "inf"}, {}, "timeout_hours is inf; it must be at most 10,000"),
        ({"resources.retries": "9" * 20}, {}, "it must be at most 100"),
    ],
)
def test_resources_that_cannot_be_are_named(flags: dict[str, str], run: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named.replace("?", r"\?")):
        plan(flags, **run)


def test_a_file_is_named_with_its_table() -> None:
    with pytest.raises(ValueError, match=r"run.toml: \[resources.pretrain\] cpu: cpu must be a whole number"):
        read_resource_table({"pretrain": {"cpu": "4"}}, "run.toml", typed=True)
