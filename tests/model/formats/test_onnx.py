"""The ONNX folder that is written, and what ONNX Runtime computes with it."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import ACTIVATION_NAMES, BertConfig, classifier_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.compare import compare_outputs, compute_outputs
from bertline.model.formats.onnx import DATA_FILE, MODEL_FILE, run_onnx, write_onnx
from bertline.model.training.checkpoint import Checkpoint

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BOUND = 1e-5


def model(config: BertConfig, vocabulary: bytes, kind: str = "pretraining") -> Checkpoint:
    """Weights ten times as large as fresh ones, and biases other than 0, so that every part has its say."""
    shapes = {
        "pretraining": pretraining_shapes(config),
        "classifier": classifier_shapes(config, 3),
        "spans": span_shapes(config),
        "no pooler": {name: shape for name, shape in span_shapes(config).items() if "pooler" not in name},
    }
    weights = initial_weights(shapes[kind], 0.2, seed=1)
    generator = np.random.default_rng(2)
    for name, array in weights.items():
        if array.ndim == 1:
            weights[name] = array + generator.normal(0, 0.1, array.shape).astype(np.float32)
    return Checkpoint(config, weights, vocabulary, True, {"step": 1})


@pytest.fixture(scope="module")
def vocabulary(toy_folder: Path) -> bytes:
    return (toy_folder / "vocab.txt").read_bytes()


@pytest.fixture(scope="module")
def pretrained(toy: BertConfig, vocabulary: bytes) -> Checkpoint:
    return model(toy, vocabulary)


@pytest.fixture(scope="module")
def exported(pretrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder, pretrained)
    return folder


def largest(checkpoint: Checkpoint, folder: Path, batch: dict[str, np.ndarray]) -> dict[str, float]:
    ours, theirs = compute_outputs(checkpoint, batch), run_onnx(folder, batch)
    found = compare_outputs(ours, theirs, "onnx", np.ones_like(batch["input_mask"]))
    assert [each.what for each in found] == list(theirs)
    return {each.what: each.largest for each in found}


@pytest.mark.parametrize("hidden_act", ACTIVATION_NAMES)
def test_computes_what_our_encoder_computes(hidden_act: str, toy, toy_batch, vocabulary: bytes, tmp_path: Path) -> None:
    checkpoint = model(dataclasses.replace(toy, hidden_act=hidden_act), vocabulary)
    write_onnx(tmp_path, checkpoint)
    found = largest(checkpoint, tmp_path, toy_batch(5))
    assert list(found) == ["last_hidden_state", "pooled_output"]
    assert max(found.values()) < BOUND


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("classifier", ["last_hidden_state", "pooled_output", "classifier_logits"]),
        ("spans", ["last_hidden_state", "pooled_output", "answer_span_logits"]),
        ("no pooler", ["last_hidden_state", "answer_span_logits"]),
    ],
)
def test_computes_the_heads_that_there_are(
    kind: str, outputs: list[str], toy, toy_batch, vocabulary: bytes, tmp_path: Path
) -> None:
    checkpoint = model(toy, vocabulary, kind)
    write_onnx(tmp_path, checkpoint)
    found = largest(checkpoint, tmp_path, toy_batch(5))
    assert list(found) == outputs
    assert max(found.values()) < BOUND


def test_one_session_takes_any_length_and_batch(exported: Path, pretrained: Checkpoint, toy_batch) -> None:
    session = onnxruntime.InferenceSession(str(exported / MODEL_FILE), providers=["CPUExecutionProvider"])
    for count, length in ((1, 8), (4, 16), (2, 32), (7, 11)):
        batch = toy_batch(count, length)
        names = ("input_ids", "input_mask", "segment_ids")
        theirs = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: batch[ours].astype(np.int64) for name, ours in zip(theirs, names, strict=True)}
        (state,) = session.run(["last_hidden_state"], inputs)
        assert np.abs(state - compute_outputs(pretrained, batch)["last_hidden_state"]).max() < BOUND


def test_padding_changes_nothing(exported: Path, toy_batch) -> None:
    batch = toy_batch(3, 16)
    names = ("input_ids", "input_mask", "segment_ids")
    wider = {name: np.pad(batch[name], ((0, 0), (0, 12))) for name in names}
    short, long = run_onnx(exported, batch), run_onnx(exported, wider)
    assert np.abs(short["pooled_output"] - long["pooled_output"]).max() < BOUND
    assert np.abs(short["last_hidden_state"] - long["last_hidden_state"][:, :16]).max() < BOUND


def test_epsilon_is_that_of_the_released_checkpoints(toy, toy_batch, vocabulary: bytes, tmp_path: Path) -> None:
    # Embeddings of about 1e-5: with an epsilon of 1e-5, the usual one, LayerNorm would make them vanish.
    checkpoint = model(toy, vocabulary)
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    small = {f"bert/embeddings/{name}": checkpoint.weights[f"bert/embeddings/{name}"] * 1e-5 for name in tables}
    checkpoint = dataclasses.replace(checkpoint, weights={**checkpoint.weights, **small})
    write_onnx(tmp_path, checkpoint)
    assert max(largest(checkpoint, tmp_path, toy_batch(5)).values()) < BOUND


def test_graph_is_valid_and_names_its_inputs_and_outputs(exported: Path) -> None:
    graph = onnx.load(exported / MODEL_FILE)
    onnx.checker.check_model(graph, full_check=True)
    dimensions = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert dimensions == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "sequence_length"],
        "token_type_ids": ["batch_size", "sequence_length"],
        "last_hidden_state": ["batch_size", "sequence_length", 32],
        "pooler_output": ["batch_size", 32],
    }


def test_weights_are_kept_bit_for_bit(exported: Path, pretrained: Checkpoint) -> None:
    tensors = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(exported / MODEL_FILE).graph.initializer
    }
    encoder = [name for name in pretrained.weights if name.startswith("bert/")]
    assert [name for name in encoder if not np.array_equal(tensors[name], pretrained.weights[name])] == []


def test_counts_and_files(toy, vocabulary: bytes, tmp_path: Path) -> None:
    checkpoint = dataclasses.replace(model(toy, vocabulary), slots={"bert/pooler/dense/bias/adam_m": np.zeros(32)})
    counts = write_onnx(tmp_path, checkpoint)
    encoder = [array.size for name, array in checkpoint.weights.items() if name.startswith("bert/")]
    assert counts == {
        "variables": len(encoder),
        "parameters": sum(encoder),
        "variables_left_out": 7,  # those of the heads of pretraining
        "slots_left_out": 1,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]


def test_same_model_same_bytes(exported: Path, pretrained: Checkpoint, tmp_path: Path) -> None:
    write_onnx(tmp_path, pretrained)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in exported.iterdir()
    }


def test_weights_too_large_for_one_file_lie_beside_it(pretrained: Checkpoint, toy_batch, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        write_onnx(folder, pretrained, largest_file=1000)
    first, second = ({name: (folder / name).read_bytes() for name in (MODEL_FILE, DATA_FILE)} for folder in folders)
    assert first == second
    assert len(first[MODEL_FILE]) < len(first[DATA_FILE])
    onnx.checker.check_model(str(folders[0] / MODEL_FILE))
    assert max(largest(pretrained, folders[0], toy_batch(5)).values()) < BOUND


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_package_is_named(
    package: str, exported: Path, pretrained: Checkpoint, toy_batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself does to forbid an import
    with pytest.raises(ValueError, match=rf"package {package}, .* pip install 'bertline\[onnx\]'"):
        if package == "onnx":
            write_onnx(tmp_path, pretrained)
        else:
            run_onnx(exported, toy_batch(1))
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_named(toy_batch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.onnx is missing; export the model to onnx again"):
        run_onnx(tmp_path, toy_batch(1))
