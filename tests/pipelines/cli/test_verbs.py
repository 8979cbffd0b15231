import argparse
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertline.components.declaration import FILE, Input
from bertline.components.step_table import STEPS
from bertline.model.config import BertConfig, bert_config, parameter_count, read_bert_config
from bertline.model.records.masking import MaskConfig
from bertline.pipelines.cli.verbs import (
    FlagParser,
    add_config_flags,
    config_from_flags,
    field_comments,
    read_field_texts,
    step_verb,
    with_underscores,
)
from bertline.settings import from_mapping


@dataclass(frozen=True)
class Settings:
    # the rows:
    max_seq_length: int = 128  # includes [CLS] and both [SEP], 100 % of it
    learning_rate: float = 1e-4

    # what is
    # trained:
    do_lower_case: bool = True  # whether text is lower-cased: all
    # of it
    # but accents

    # the rest:
    model: str = "base"


def parsed(*argv: str) -> Settings:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_config_flags(parser, Settings)
    parser.format_help()
    return config_from_flags(parser.parse_args(with_underscores(argv)), Settings)


def test_flags_are_the_fields_with_their_types() -> None:
    assert parsed() == Settings()
    assert parsed("--max_seq_length=512", "--learning_rate", "5e-5", "--do_lower_case=False") == Settings(
        512, 5e-5, False, "base"
    )
    assert parsed("--max-seq-length=64", "--do-lower-case", "--model=my-model") == Settings(64, 1e-4, True, "my-model")


def test_the_help_of_an_input_may_hold_any_character() -> None:
    inputs = {"documents": Input("documents", "5 % of all (%s)"), "size": Input(FILE, "100%", optional=True)}
    parser = argparse.ArgumentParser()
    step_verb(dataclasses.replace(STEPS["split"], inputs=inputs)).add_flags(parser)
    shown = parser.format_help()
    assert "5 % of all (%s)" in shown and "100%" in shown


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('max_seq_length = 256\nmodel = "tiny"\n')
    assert parsed(f"--config={file}", "--model=mini") == Settings(256, 1e-4, True, "mini")


def test_help_has_the_comments_of_a_field_in_the_groups_of_the_source() -> None:
    assert read_field_texts(Settings) == {
        "max_seq_length": ("the rows", "includes [CLS] and both [SEP], 100 % of it"),
        "learning_rate": ("the rows", ""),
        "do_lower_case": ("trained", "whether text is lower-cased: all of it but accents"),
        "model": ("the rest", ""),
    }
    parser = FlagParser()
    add_config_flags(parser, Settings)
    shown = " ".join(parser.format_help().split())
    assert "the rows: --max_seq_length N Includes [CLS] and both [SEP], 100 % of it. (default: 128)" in shown
    assert "Whether text is lower-cased: all of it but accents. (default: true)" in shown


def test_a_text_in_json_may_be_a_number_or_a_bool(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"  # as a KFP parameter may have it
    file.write_text('{"do_lower_case": "false", "max_seq_length": "512"}')
    assert parsed(f"--config={file}") == Settings(512, 1e-4, False, "base")


def test_unknown_flags_end_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed("--do_lower=False")  # the original takes it and does nothing
    assert stopped.value.code == 2
    assert "--do_lower" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "expected a JSON or TOML file"),
        ("a.json", "[1]", "found a list"),
        ("a.json", '{"max_len": 1}', "unknown Settings keys: max_len"),
        ("a.json", '{"max_seq_length": "long"}', "max_seq_length must be a whole number"),
        (
            "a.toml",
            'do_lower_case = "false"',
            "do_lower_case must be true or false, not the text 'false'; write it without quotes",
        ),
        ("a.toml", 'max_seq_length = "512"', "max_seq_length must be a whole number, not the text '512'"),
        ("a.toml", '[prepare]\ndo_lower_case = "false"', "unknown Settings keys: prepare"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        parsed(f"--config={file}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("settings.conf", 'model = "tiny"', "read as JSON, since its name does not end in .toml"),
        ("settings.toml", '{"model": "tiny"}', "expected a JSON or TOML file of settings$"),
    ],
)
def test_the_name_of_a_file_says_how_it_is_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        parsed(f"--config={file}")


def test_a_folder_is_no_file_of_settings_but_a_pipe_is(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path}: a folder; --config takes a JSON or TOML file"):
        parsed(f"--config={tmp_path}")
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write('{"model": "tiny"}')
    assert parsed(f"--config=/dev/fd/{reading}").model == "tiny"
    os.close(reading)


def test_types_lost_on_the_way_are_restored() -> None:
    """A KFP dict parameter turns every int into a float."""
    mapping = json.loads('{"max_seq_length": 512.0, "learning_rate": 1, "do_lower_case": "true"}')
    assert from_mapping(Settings, mapping) == Settings(512, 1.0, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_seq_length", 12.5),
        ("max_seq_length", True),
        ("max_seq_length", "many"),
        ("learning_rate", None),
        ("do_lower_case", 1),
        ("model", 3),
    ],
)
def test_values_of_another_type_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} must be"):
        from_mapping(Settings, {key: value})


def test_parameter_counts_equal_the_published_ones() -> None:
    published = {
        "tiny": 4_385_920,
        "mini": 11_170_560,
        "small": 28_763_648,
        "medium": 41_373_184,
        "base": 109_482_240,
        "large": 335_141_888,
    }
    assert {size: parameter_count(bert_config(size, 30_522), heads=False) for size in published} == published
    assert parameter_count(bert_config("12/768", 30_522)) == 110_106_428


def test_a_configuration_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bert_config.json"
    file.write_text('{"vocab_size": 100, "pooler_type": "x"}')
    assert read_bert_config(file) == BertConfig(vocab_size=100)
    with pytest.raises(ValueError, match="vocab_size is 100, but the vocabulary has 99 entries"):
        bert_config(str(file), 99)
    file.write_text('{"vocab_size": 100, "hiden_size": 3}')
    with pytest.raises(ValueError, match='unknown key "hiden_size"; is "hidden_size" meant'):
        bert_config(str(file), 100)
    with pytest.raises(ValueError, match='model "bsae" is neither a known size nor a file'):
        bert_config("bsae", 100)


def test_a_field_of_several_lines_keeps_its_comment() -> None:
    assert field_comments(MaskConfig)["span_geometric_p"].startswith("chances of n words")
