"""The export step: which writer a target gets, and the options of each."""

import dataclasses
import json
from pathlib import Path

import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import pretraining_shapes
from bertline.model.formats.export import ExportConfig, choose_pooling, run, write_export
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(toy) -> Checkpoint:
    vocabulary = "".join(f"{token}\n" for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")).encode()
    shape = dataclasses.replace(toy, vocab_size=7)
    return Checkpoint(shape, initial_weights(pretraining_shapes(shape), 0.02, 1), vocabulary, True, {"step": 1})


def test_a_checkpoint_folder_becomes_a_hugging_face_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_checkpoint(source, checkpoint)
    counts = run(source, out, ExportConfig())
    assert counts == {"tensors": 46, "parameters": sum(array.size for array in checkpoint.weights.values())}
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]


def test_a_checkpoint_becomes_one_of_tensorflow_1(checkpoint: Checkpoint, tmp_path: Path) -> None:
    counts = write_export(tmp_path, checkpoint, ExportConfig(to="tf1"))
    assert counts == {
        "tensors": 46,
        "parameters": sum(array.size for array in checkpoint.weights.values()),
        "slots": 0,
    }
    assert (tmp_path / "bert_model.ckpt.index").is_file()


def test_equal_models_give_equal_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        write_export(folder, checkpoint, ExportConfig(to="sentence-transformers"))
    files = [{path.relative_to(folder): path for path in folder.rglob("*.*")} for folder in folders]
    assert sorted(files[0]) == sorted(files[1])
    assert all(path.read_bytes() == files[1][name].read_bytes() for name, path in files[0].items())


def test_pooling_and_normalization_are_passed_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_export(tmp_path, checkpoint, ExportConfig(to="sentence-transformers", pooling="max", normalize="false"))
    pooling = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert {key for key, value in pooling.items() if value is True} == {"pooling_mode_max_tokens"}
    assert len(json.loads((tmp_path / "modules.json").read_text())) == 2


@pytest.mark.parametrize(
    ("state", "options", "expected"),
    [
        ({}, {}, ("mean", True)),
        ({}, {"pooling": "max", "normalize": "false"}, ("max", False)),
        ({"pooling": "cls", "normalize": False}, {}, ("cls", False)),
        ({"pooling": "cls", "normalize": False}, {"pooling": "max"}, ("max", False)),
        ({"pooling": "cls", "normalize": False}, {"pooling": "mean", "normalize": "true"}, ("mean", True)),
    ],
)
def test_a_model_keeps_its_own_pooling_unless_another_is_asked_for(
    checkpoint: Checkpoint, state, options, expected
) -> None:
    assert choose_pooling(dataclasses.replace(checkpoint, state=state), ExportConfig(**options)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "keras"}, 'to is "keras"; known: huggingface, sentence-transformers, tf1, savedmodel, onnx'),
        ({"pooling": "last"}, 'pooling is "last"; known: mean, cls, max'),
    ],
)
def test_unknown_values_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExportConfig(**options)


@pytest.mark.parametrize("target", ["huggingface", "tf1"])
def test_no_other_format_has_a_word_for_layers_that_normalise_first(checkpoint: Checkpoint, tmp_path, target) -> None:
    shape = dataclasses.replace(checkpoint.bert_config, pre_layer_norm=True)
    with pytest.raises(ValueError, match=f"pre_layer_norm is true, which {target} cannot express"):
        write_export(tmp_path, dataclasses.replace(checkpoint, bert_config=shape), ExportConfig(to=target))
    assert not list(tmp_path.iterdir())
