import dataclasses
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.model.pretraining.config import PretrainConfig
from bertline.pipelines.platforms import LOCAL
from bertline.pipelines.pretraining import STEP_OF_SETTINGS, build_pipeline
from bertline.pipelines.recipes import RECIPES, RUNS, recipe
from bertline.pipelines.run_local import check, describe_tensorboard
from bertline.pipelines.run_settings import (
    Run,
    batch_512,
    derive_settings,
    parse_tasks,
    pipeline_arguments,
)
from bertline.pipelines.step_settings import RUN_STEPS, config_class, read_flags
from bertline.settings import from_mapping


@pytest.mark.parametrize("run", [*RUNS.values(), *(recipe(name, "mini") for name in RECIPES)])
def test_every_named_run_makes_valid_settings_of_every_step(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A line.\n")
    check(dataclasses.replace(run, books="", dump="", text=str(text)), tmp_path / "out")


def test_every_settings_parameter_of_the_pipeline_is_of_a_step() -> None:
    inputs = build_pipeline(LOCAL).component_spec.inputs
    assert {name for name, each in inputs.items() if each.type == "Dict"} == STEP_OF_SETTINGS.keys()
    assert inputs.keys() >= pipeline_arguments(RUNS["tiny"]).keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_accumulation_steps": 8}, "pretrain_512: train_batch_size is 4, not a multiple"),
        ({"optimizer": "sgd"}, 'optimizer is "sgd"; known: bert_adam, adamw'),
        ({"learning_rate_decay": "cosine"}, 'learning_rate_decay is "cosine"'),
        ({"warmup_share": 2.0}, "warmup_share is 2.0; it must lie between 0 and 1"),
        ({"length_bins": "64,600"}, "prepare_512: length_bins"),
        ({"heldout_share": 0.0}, 'heldout_128: heldout_share is 0.0; part "heldout" would be empty'),
        ({"finetune_epochs": -1.0}, "finetune: num_train_epochs"),
    ],
)
def test_settings_that_a_later_step_would_refuse_are_refused_at_once(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        check(dataclasses.replace(RUNS["tiny"], **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("chosen", "backend", "refused"),
    [
        ("tensorflow", None, True),
        ("", None, True),
        ("", "tensorflow", True),
        ("tensorflow", "jax", True),
        ("", "jax", False),
        ("jax", "tensorflow", False),
    ],
)
def test_several_devices_are_refused_before_the_first_step_unless_jax_computes(
    chosen: str, backend: str | None, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if backend:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    text = tmp_path / "text.txt"
    text.write_text("A line.\n")
    run = dataclasses.replace(RUNS["tiny"], books="", dump="", text=str(text), devices=2, backend=chosen)
    message = "pretrain_128: devices is 2; several devices share a batch on the jax backend only"
    with pytest.raises(ValueError, match=message) if refused else nullcontext():
        check(run, tmp_path / "out")


def test_a_run_on_this_machine_is_on_one_host(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A line.\n")
    several = tuple(read_flags({"pretrain_512.hosts": "2"}))
    run = dataclasses.replace(RUNS["tiny"], books="", dump="", text=str(tmp_path / "text.txt"))
    with pytest.raises(ValueError, match="hosts of pretrain_512 is 2, but a run computes on this machine"):
        check(dataclasses.replace(run, devices=2, backend="jax", steps=several), tmp_path / "out")


def test_short_names_have_the_defaults_of_the_steps() -> None:
    own = {"schema", "dupe_factor", "num_train_steps", "num_warmup_steps", "stop_at_step"}  # choices of a run
    own |= {"save_checkpoints_steps", "eval_every_steps", "eval_batch_size", "max_eval_examples", "model"}
    for step in ("ingest", "split", "vocabulary", "prepare_128", "pretrain_128", "finetune"):
        derived = derive_settings(Run())[step]
        defaults = {field.name: field.default for field in dataclasses.fields(config_class(step))}
        shared = derived.keys() - own
        assert {name: derived[name] for name in shared} == {name: defaults[name] for name in shared}, step


def test_the_arguments_of_a_step_are_all_of_its_settings() -> None:
    arguments = pipeline_arguments(RUNS["tiny"])
    for step in RUN_STEPS:
        assert list(arguments[step]) == [field.name for field in dataclasses.fields(config_class(step))]


def test_tasks_are_folders_of_any_name() -> None:
    run = Run(tasks=("mrpc=/a/a=b c", "sst2=~nobody-of-this-name/\u00e9"))
    assert pipeline_arguments(run)["tasks"] == [
        {"kind": "mrpc", "train": "/a/a=b c/train.tsv", "dev": "/a/a=b c/dev.tsv"},
        {
            "kind": "sst2",
            "train": "~nobody-of-this-name/\u00e9/train.tsv",
            "dev": "~nobody-of-this-name/\u00e9/dev.tsv",
        },
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (("mrpc",), 'task is "mrpc"; give TASK=FOLDER, such as mrpc=MRPC/'),
        (("mrpc=",), 'task is "mrpc="; give TASK=FOLDER'),
        (("cola=CoLA/",), 'unknown task "cola"; known: mrpc, sst2'),
        (("mrpc=a", "mrpc=b"), 'task mrpc is given twice, with "a" and with "b"'),
    ],
)
def test_impossible_tasks_are_refused(tasks: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tasks(tasks)


def test_both_stages_are_of_one_schedule() -> None:
    run = dataclasses.replace(RUNS["tiny"], steps_128=90, steps_512=10, batch=32)
    arguments = pipeline_arguments(run)
    first = from_mapping(PretrainConfig, arguments["pretrain_128"])
    second = from_mapping(PretrainConfig, arguments["pretrain_512"])
    assert (first.num_train_steps, second.num_train_steps) == (100, 100)
    assert first.stop_at_step == 90
    assert second.stop_at_step in (0, 100)
    assert first.num_warmup_steps == second.num_warmup_steps == 10
    assert (first.train_batch_size, second.train_batch_size) == (32, batch_512(run)) == (32, 8)


def test_held_out_records_share_masks_settings_but_not_documents_with_training() -> None:
    arguments = pipeline_arguments(RUNS["tiny"])
    assert arguments["heldout_128"] == arguments["prepare_128"] | {"part": "heldout", "dupe_factor": 1}


def test_evaluations_in_training_take_a_twentieth_of_its_time() -> None:
    run = dataclasses.replace(RUNS["tiny"], steps_128=9000, steps_512=1000, batch=64)
    for stage, batch in (("pretrain_128", 64), ("pretrain_512", 16)):
        config = from_mapping(PretrainConfig, pipeline_arguments(run)[stage])
        assert config.eval_every_steps == 500
        assert config.max_eval_examples == 500 * batch * 3 // 20  # an example costs a third of one in training
        assert config.eval_batch_size == batch


def test_evaluations_are_as_many_and_as_large_as_a_run_says() -> None:
    short = dataclasses.replace(RUNS["base"], evaluate_examples=8)
    first = from_mapping(PretrainConfig, pipeline_arguments(short)["pretrain_128"])
    assert (first.eval_every_steps, first.max_eval_examples) == (short.save_every, 8)
    other = dataclasses.replace(short, eval_every=3)
    assert from_mapping(PretrainConfig, pipeline_arguments(other)["pretrain_512"]).eval_every_steps == 3
    with pytest.raises(ValueError, match="eval_every is -1; it must be at least 0"):
        dataclasses.replace(short, eval_every=-1)


def test_length_bins_are_of_the_training_records_alone_and_narrower_than_their_stage() -> None:
    arguments = pipeline_arguments(dataclasses.replace(RUNS["tiny"], length_bins="64, 128,256"))
    names = ("prepare_128", "prepare_512", "heldout_128", "heldout_512")
    assert [arguments[name]["length_bins"] for name in names] == ["64", "64,128,256", "", ""]
    for wrong in ("64,600", "half"):
        records = pipeline_arguments(dataclasses.replace(RUNS["tiny"], length_bins=wrong))["prepare_512"]
        with pytest.raises(ValueError, match=f'length_bins is "{wrong}"'):
            from_mapping(PrepareConfig, records)
    assert not pipeline_arguments(RUNS["tiny"])["prepare_512"]["length_bins"]


def test_all_steps_that_compute_do_so_alike() -> None:
    arguments = pipeline_arguments(
        dataclasses.replace(RUNS["tiny"], backend="jax", precision="mixed_bfloat16", jit_compile=False)
    )
    for step in ("pretrain_128", "pretrain_512", "evaluate", "finetune"):
        config = from_mapping(config_class(step), arguments[step])
        assert (config.backend, config.precision, config.jit_compile) == ("jax", "mixed_bfloat16", False)


def test_the_end_of_a_run_says_how_tensorboard_is_installed_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"{sys.executable} -m tensorboard.main --logdir '{tmp_path}/my store'"
    monkeypatch.setattr("bertline.pipelines.run_local.find_spec", lambda name: None)
    assert describe_tensorboard(tmp_path / "my store") == f"{sys.executable} -m pip install tensorboard, then {command}"
    monkeypatch.setattr("bertline.pipelines.run_local.find_spec", lambda name: name)
    assert describe_tensorboard(tmp_path / "my store") == command


def test_sets_of_a_task_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "train.tsv.gz").touch()
    (tmp_path / "dev.tsv").touch()
    (task,) = pipeline_arguments(dataclasses.replace(RUNS["tiny"], tasks=(f"sst2={tmp_path}",)))["tasks"]
    assert (task["train"], task["dev"]) == (str(tmp_path / "train.tsv.gz"), str(tmp_path / "dev.tsv"))


def test_a_tasks_file_in_place_of_its_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\nGood.\t1\n")
    run = dataclasses.replace(RUNS["tiny"], tasks=(f"sst2={tmp_path / 'train.tsv'}",))
    with pytest.raises(NotADirectoryError, match=r"train.tsv: a file; give the folder that holds"):
        check(run, tmp_path / "out")


def test_a_cased_vocabulary_is_refused_for_lower_casing_before_the_first_step(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *map(str.upper, "abcdefgh")]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    run = dataclasses.replace(RUNS["tiny"], vocab=str(tmp_path / "vocab.txt"))
    with pytest.raises(ValueError, match=r"pieces have capital letters .*; set --do_lower_case=false"):
        check(run, tmp_path / "out")
    check(dataclasses.replace(run, do_lower_case=False), tmp_path / "out")
