import dataclasses

import pytest

from bertline.components.ingest.sources import IngestConfig, Sources
from bertline.components.prepare import PrepareConfig
from bertline.components.sentences import SplitConfig
from bertline.components.vocabulary import VocabularyConfig
from bertline.model.config import from_mapping
from bertline.model.evaluate import EvaluateConfig
from bertline.model.export import ExportConfig
from bertline.model.finetune import FinetuneConfig
from bertline.model.pretrain_config import PretrainConfig
from bertline.pipelines.runs import RUNS, batch_512, pipeline_arguments

CONFIGS = {
    "ingest": IngestConfig,
    "split": SplitConfig,
    "vocabulary": VocabularyConfig,
    "prepare_128": PrepareConfig,
    "prepare_512": PrepareConfig,
    "heldout_128": PrepareConfig,
    "heldout_512": PrepareConfig,
    "pretrain_128": PretrainConfig,
    "pretrain_512": PretrainConfig,
    "evaluate": EvaluateConfig,
    "finetune": FinetuneConfig,
    "export": ExportConfig,
}


def test_every_named_run_makes_valid_settings_of_every_step() -> None:
    for run in RUNS.values():
        arguments = pipeline_arguments(run)
        from_mapping(Sources, arguments["sources"])
        for step, config in CONFIGS.items():
            from_mapping(config, arguments.get(step, {}))


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
        config = from_mapping(CONFIGS[step], arguments[step])
        assert (config.backend, config.precision, config.jit_compile) == ("jax", "mixed_bfloat16", False)
