"""The Hugging Face folder: names, shapes, configuration and tokenizer."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from bertline.model.bert import initial_weights
from bertline.model.checkpoints.state import Checkpoint, write_checkpoint
from bertline.model.export import ExportConfig, run
from bertline.model.formats.names import huggingface_name, original_name
from bertline.model.heads import classifier_shapes, pretraining_shapes
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##want\n##ed\nrunn\n##ing\n,\ncafe\n"


@pytest.fixture(scope="module")
def checkpoint(toy) -> Checkpoint:
    shape = dataclasses.replace(toy, vocab_size=12)
    return Checkpoint(shape, initial_weights(pretraining_shapes(shape), 0.02, 1), VOCABULARY, True, {"step": 1})


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("exported")
    write_checkpoint(source, checkpoint)
    counts = run(source, out, ExportConfig())
    assert counts == {"tensors": 46, "parameters": sum(array.size for array in checkpoint.weights.values())}
    return out


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
        ("bert/embeddings/LayerNorm/gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert/encoder/layer_11/attention/self/query/kernel", "bert.encoder.layer.11.attention.self.query.weight"),
        ("bert/encoder/layer_0/output/LayerNorm/beta", "bert.encoder.layer.0.output.LayerNorm.bias"),
        ("bert/pooler/dense/bias", "bert.pooler.dense.bias"),
        ("cls/predictions/transform/dense/kernel", "cls.predictions.transform.dense.weight"),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
        ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
        ("output_weights", "classifier.weight"),
        ("output_bias", "classifier.bias"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("cls/predictions/transform/LayerNorm/gamma", "cls.predictions.transform.LayerNorm.weight"),
    ],
)
def test_names(ours: str, theirs: str) -> None:
    assert huggingface_name(ours) == theirs
    assert original_name(theirs) == ours


def test_weights_are_transposed_where_pytorch_has_them_so(exported: Path, checkpoint: Checkpoint) -> None:
    tensors = load_file(exported / "model.safetensors")
    with safe_open(exported / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    kernel = checkpoint.weights["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert np.array_equal(tensors["bert.encoder.layer.0.intermediate.dense.weight"], kernel.T)
    next_sentence = checkpoint.weights["cls/seq_relationship/output_weights"]
    assert np.array_equal(tensors["cls.seq_relationship.weight"], next_sentence)


def test_configuration(exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["BertForPreTraining"]
    assert (config["model_type"], config["hidden_act"], config["layer_norm_eps"]) == (
        "bert",
        "gelu_pytorch_tanh",
        1e-12,
    )
    assert (config["vocab_size"], config["hidden_size"], config["tie_word_embeddings"]) == (12, 32, True)
    tokenizer = json.loads((exported / "tokenizer_config.json").read_text())
    assert (tokenizer["do_lower_case"], tokenizer["model_max_length"]) == (True, 32)


def test_tokenizer_file_equals_our_tokenizer(exported: Path) -> None:
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(exported / "tokenizer.json"))
    ours = WordPieceTokenizer(load_vocabulary(exported / "vocab.txt"))
    for text in ("UNwant\u00e9d,running", "Caf\u00e9 " + "un" * 60, "a" * 200, "un" + "ed" * 99, ""):
        assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text), text
    pair = theirs.encode("unwanted", "running")
    assert (pair.ids, pair.type_ids) == ([2, 5, 6, 7, 3, 8, 9, 3], [0, 0, 0, 0, 0, 1, 1, 1])


def test_a_classifier_is_exported_with_its_labels(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = initial_weights(classifier_shapes(checkpoint.bert_config, 2), 0.02, 1)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    state = {"step": 5, "labels": ["no", "yes"]}
    write_checkpoint(source, dataclasses.replace(checkpoint, weights=weights, state=state))
    run(source, out, ExportConfig())
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert load_file(out / "model.safetensors")["classifier.weight"].shape == (2, 32)


def test_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match='to is "onnx"; known: huggingface'):
        ExportConfig(to="onnx")
