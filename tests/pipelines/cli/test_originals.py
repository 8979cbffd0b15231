"""The originals' programs: their flags and defaults on our settings."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import PROCESSES
from bertline.model.pretraining.config import PretrainConfig
from bertline.pipelines.cli.originals import CREATE_PRETRAINING_DATA, EXTRACT_FEATURES, RUN_PRETRAINING, Program
from bertline.pipelines.cli.run_pretraining_verb import make_configs
from bertline.pipelines.cli.verbs import FlagParser

# As the programs' own flags.DEFINE_... say, file names aside.
DEFAULTS: list[tuple[Program, dict[str, Any]]] = [
    (
        CREATE_PRETRAINING_DATA,
        {
            "do_lower_case": True,
            "do_whole_word_mask": False,
            "max_seq_length": 128,
            "max_predictions_per_seq": 20,
            "random_seed": 12345,
            "dupe_factor": 10,
            "masked_lm_prob": 0.15,
            "short_seq_prob": 0.1,
        },
    ),
    (
        RUN_PRETRAINING,
        {
            "max_seq_length": 128,
            "max_predictions_per_seq": 20,
            "do_train": False,
            "do_eval": False,
            "train_batch_size": 32,
            "eval_batch_size": 8,
            "learning_rate": 5e-5,
            "num_train_steps": 100_000,
            "num_warmup_steps": 10_000,
            "save_checkpoints_steps": 1000,
            "iterations_per_loop": 1000,
            "max_eval_steps": 100,
            "use_tpu": False,
            "num_tpu_cores": 8,
        },
    ),
    (EXTRACT_FEATURES, {"layers": "-1,-2,-3,-4", "max_seq_length": 128, "batch_size": 32}),
]


@pytest.mark.parametrize(("program", "defaults"), DEFAULTS, ids=lambda each: getattr(each, "name", ""))
def test_the_originals_defaults(program: Program, defaults: dict[str, Any]) -> None:
    ours = {setting.name: setting.default for setting in program.describe_settings()}
    assert {name: ours[name] for name in defaults} == defaults


def given_to(program: Program, *argv: str) -> dict[str, Any]:
    parser = FlagParser(allow_abbrev=False)
    program.add_flags(parser)
    return program.read_given(parser.parse_args(argv))


def test_flags_become_the_settings_of_the_step_whose_work_it_is() -> None:
    given = given_to(CREATE_PRETRAINING_DATA, "--random_seed=1", "--max_ngram=3", "--do_whole_word_mask")
    wanted = PrepareConfig(
        dupe_factor=10, seed=1, max_ngram=3, part="all", heldout_share=0.0, runner=PROCESSES, do_whole_word_mask=True
    )
    assert CREATE_PRETRAINING_DATA.make_config(given) == wanted


def test_every_setting_of_prepare_is_a_flag_or_decided_by_the_program() -> None:
    settings = set(CREATE_PRETRAINING_DATA.translate({}))
    assert {field.name for field in dataclasses.fields(PrepareConfig)} - settings == {
        *("length_bins", "num_shards"),  # of folders of records
        "beam_options",
    }


def test_a_file_names_settings_as_the_program_does_and_flags_win_over_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("random_seed = 3\nmasked_lm_prob = 0.2\n")
    given = given_to(CREATE_PRETRAINING_DATA, f"--config={file}", "--random_seed=4")
    assert given == {"random_seed": 4, "masked_lm_prob": 0.2}
    file.write_text("seed = 3\n")
    with pytest.raises(ValueError, match="unknown create_pretraining_data keys: seed; known: do_lower_case"):
        given_to(CREATE_PRETRAINING_DATA, f"--config={file}")


def test_evaluation_alone_does_not_look_at_the_settings_of_training() -> None:
    given = given_to(RUN_PRETRAINING, "--do_eval", "--num_train_steps=20", "--eval_batch_size=4", "--seed=7")
    config, settings = make_configs(given)
    assert (settings.num_train_steps, settings.eval_batch_size, settings.seed) == (100_000, 4, 7)
    assert config.evaluate_config(settings).max_examples == 400
    with pytest.raises(ValueError, match="num_warmup_steps is 10000; it must not exceed num_train_steps, 20"):
        make_configs({**given, "do_train": True})


def test_a_tpu_shares_each_batch_among_its_cores() -> None:
    given = given_to(RUN_PRETRAINING, "--do_train", "--use_tpu=True", "--num_tpu_cores=4", "--learning_rate=2e-5")
    wanted = PretrainConfig(learning_rate=2e-5, eval_batch_size=8, backend="jax", devices=4)
    assert make_configs(given)[1] == wanted


def test_unknown_flags_end_with_2_and_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        given_to(RUN_PRETRAINING, "--do_train", "--num_train_step=3")
    assert stopped.value.code == 2
    assert "--num_train_step=3; did you mean --num_train_steps?" in capsys.readouterr().err


def test_help_shows_the_originals_default(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    CREATE_PRETRAINING_DATA.add_flags(parser)
    assert "masked as a whole. (default: false)" in " ".join(parser.format_help().split())
