"""convert and inspect as their user meets them: a released folder in, any format out, errors with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertline.components.store.manifests import read_manifest
from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.formats.tf1.checkpoint import write_tf1
from bertline.model.training.checkpoint import Checkpoint
from bertline.pipelines.cli.main import main

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = ("\n".join([*SPECIAL, *(f"word{number}" for number in range(15))]) + "\n").encode()
CONFIG = BertConfig(20, 8, 2, 2, 16, max_position_embeddings=12)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as google-research/bert released them."""
    folder = tmp_path / "uncased_L-2_H-8_A-2"
    folder.mkdir()
    weights = initial_weights(pretraining_shapes(CONFIG), 0.1, seed=4)
    extras = {"pooler_type": "first_token_transform"}
    write_tf1(folder, Checkpoint(CONFIG, weights, VOCABULARY, True, {"step": 0}, config_extras=extras))
    (folder / "tokenizer_config.json").unlink()
    return folder


def test_a_released_folder_is_converted_proved_and_found_again(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "huggingface"
    assert main(["convert", str(released), str(out), "--to=huggingface"]) == 0
    shown = capsys.readouterr().out
    assert "2 layers of 8, 2 heads, feed-forward 16, gelu" in shown
    assert "difference.read_back.hidden_states" in shown
    assert json.loads((out / "config.json").read_text())["pooler_type"] == "first_token_transform"
    manifest = read_manifest(out)
    assert manifest["kind"] == "export_huggingface"
    assert {each["file"] for each in manifest["inputs"]} >= {"bert_model.ckpt.index", "vocab.txt", "bert_config.json"}
    assert main(["convert", str(released), str(out), "--to=huggingface"]) == 0
    assert "already made" in capsys.readouterr().out
    assert main(["convert", str(released), str(out), "--to=bertline"]) == 2
    assert "already holds something else" in capsys.readouterr().err


def test_a_converted_model_is_a_checkpoint_of_the_pipeline(released: Path, tmp_path: Path) -> None:
    assert main(["convert", str(released / "bert_model.ckpt"), str(tmp_path / "ours")]) == 0
    assert read_manifest(tmp_path / "ours", "checkpoint")["kind"] == "checkpoint_converted"
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back"), "--to=tf1"]) == 0
    name = "bert_model.ckpt.data-00000-of-00001"
    assert (tmp_path / "back" / name).read_bytes() == (released / name).read_bytes()


def test_a_grown_vocabulary(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grown.txt").write_bytes(VOCABULARY + b"word1word2\n")
    flags = [f"--new_vocab={tmp_path / 'grown.txt'}", f"--config={tmp_path / 'settings.json'}"]
    (tmp_path / "settings.json").write_text('{"to": "bertline"}')
    assert main(["convert", str(released), str(tmp_path / "grown"), *flags]) == 0
    counts = read_manifest(tmp_path / "grown")["counts"]
    assert (counts["pieces.kept"], counts["pieces.new"]) == (20, 1)


def test_inspect_describes_a_model(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(released), "--json", "--variables"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["heads"]) == ("tf1", "pooler, masked-LM head, next-sentence head")
    assert found["case"] == "uncased: lower-cased, accents stripped"
    assert found["further settings"] == "pooler_type=first_token_transform"
    assert len(found["list of variables"]) == found["variables"] == len(pretraining_shapes(CONFIG))
    assert main(["inspect", str(released)]) == 0
    assert "next-sentence head" in capsys.readouterr().out


def test_a_huggingface_folder_is_written_and_inspected_without_tensorflow(released: Path, tmp_path: Path) -> None:
    assert main(["convert", str(released), str(tmp_path / "checkpoint")]) == 0
    program = (
        "import sys; from bertline.pipelines.cli.main import main;"
        "assert main(['export', '--checkpoint=checkpoint', '--out=exported']) == 0;"
        "assert main(['inspect', 'exported']) == 0;"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    argv = [sys.executable, "-c", program]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert ended.stderr == ""
    assert "huggingface" in ended.stdout and "step" not in ended.stdout  # which such a folder does not say


@pytest.mark.slow
@pytest.mark.parametrize("to", ["tf1", "savedmodel", "onnx", "sentence-transformers"])
def test_libraries_say_nothing_of_absent_gpus_when_a_model_is_written(to: str, released: Path, tmp_path: Path) -> None:
    assert main(["convert", str(released), str(tmp_path / "checkpoint")]) == 0
    argv = ["export", f"--checkpoint={tmp_path / 'checkpoint'}", f"--to={to}", f"--out={tmp_path / 'exported'}"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # Keras sets it
    command = [sys.executable, "-m", "bertline", *argv]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ended.stderr == ""


def test_verbs_that_take_a_checkpoint_name_convert_for_other_models(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (released, released / "bert_model.ckpt"):
        for verb in ("export", "evaluate --records=records", "finetune --task=sst2 --train=train.tsv --dev=dev.tsv"):
            name, *flags = verb.split()
            assert main([name, f"--checkpoint={model}", *flags, f"--out={tmp_path / 'out'}"]) == 2
            assert f'"bertline convert {model} CHECKPOINT" makes a checkpoint of this model' in capsys.readouterr().err
    assert main(["export", f"--checkpoint={tmp_path}", f"--out={tmp_path / 'out'}"]) == 2
    assert "convert" not in capsys.readouterr().err


def test_inspect_lists_the_released_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--presets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["with both heads"] for row in rows}["base"] == 110_106_428
    assert main(["inspect", "--presets"]) == 0
    assert "110,106,428" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"), [([], "PATH --presets is required"), (["model", "--presets"], "not allowed with argument PATH")]
)
def test_inspect_wants_a_model_or_the_list(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["inspect", *argv])
    assert says in capsys.readouterr().err


def test_bad_input_ends_with_2_and_leaves_nothing(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    name = "bert_model.ckpt.data-00000-of-00001"
    damaged = bytearray((released / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (released / name).write_bytes(bytes(damaged))
    for argv, message in (
        (["convert", str(tmp_path / "none"), str(out)], "no such model"),
        (["convert", str(released), str(out)], "download the checkpoint's files again"),
        (["convert", str(released), str(out), "--to=onxx"], 'to is "onxx"; did you mean onnx? known: bertline'),
    ):
        assert main(argv) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [released.name]


def test_another_configuration_is_refused_with_both_shapes(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = json.loads((released / "bert_config.json").read_text()) | {"intermediate_size": 32}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert main(["inspect", str(released), f"--bert_config_file={tmp_path / 'other.json'}"]) == 2
    error = capsys.readouterr().err
    assert (
        "bert/encoder/layer_0/intermediate/dense/kernel has shape [8, 16], its configuration asks for [8, 32]" in error
    )


def test_weights_are_equal_bit_for_bit_after_a_trip(released: Path, tmp_path: Path) -> None:
    from bertline.model.formats.detect import read_model

    assert main(["convert", str(released), str(tmp_path / "there"), "--to=huggingface"]) == 0
    assert main(["convert", str(tmp_path / "there"), str(tmp_path / "back"), "--to=bertline"]) == 0
    before, after = (read_model(path).checkpoint.weights for path in (released, tmp_path / "back"))
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
