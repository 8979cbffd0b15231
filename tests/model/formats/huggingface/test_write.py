"""The Hugging Face folder that is written: tensors, configuration and tokenizer."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from bertline.model.bert import initial_weights
from bertline.model.config import classifier_shapes, pretraining_shapes
from bertline.model.formats.huggingface.write import write_huggingface
from bertline.model.formats.loaded_model import ENCODER, head_shapes
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##want\n##ed\nrunn\n##ing\n,\ncafe\n"


@pytest.fixture(scope="module")
def checkpoint(toy) -> Checkpoint:
    shape = dataclasses.replace(toy, vocab_size=12)
    weights = initial_weights(pretraining_shapes(shape), 0.02, 1)
    return Checkpoint(shape, weights, VOCABULARY, True, {"step": 1}, config_extras={"pooler_fc_size": 768})


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    write_huggingface(out, checkpoint)
    return out


def config_of(folder: Path, checkpoint: Checkpoint, **changes) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    write_huggingface(folder, dataclasses.replace(checkpoint, **changes))
    return json.loads((folder / "config.json").read_text())


def test_weights_are_transposed_where_pytorch_has_them_so(exported: Path, checkpoint: Checkpoint) -> None:
    tensors = load_file(exported / "model.safetensors")
    with safe_open(exported / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    kernel = checkpoint.weights["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert np.array_equal(tensors["bert.encoder.layer.0.intermediate.dense.weight"], kernel.T)
    next_sentence = checkpoint.weights["cls/seq_relationship/output_weights"]
    assert np.array_equal(tensors["cls.seq_relationship.weight"], next_sentence)
    assert not [name for name in tensors if "decoder" in name]


def test_configuration(exported: Path) -> None:
    assert json.loads((exported / "config.json").read_text()) == {
        "architectures": ["BertForPreTraining"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 32,
        "model_type": "bert",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "pooler_fc_size": 768,
        "tie_word_embeddings": True,
        "type_vocab_size": 2,
        "vocab_size": 12,
    }
    tokenizer = json.loads((exported / "tokenizer_config.json").read_text())
    assert (tokenizer["do_lower_case"], tokenizer["model_max_length"]) == (True, 32)
    assert (tokenizer["strip_accents"], tokenizer["mask_token"]) == (None, "[MASK]")


@pytest.mark.parametrize(
    ("heads", "architecture"),
    [
        ((), "BertModel"),
        (("pooler",), "BertModel"),
        (("masked-LM head",), "BertForMaskedLM"),
        (("pooler", "next-sentence head"), "BertForNextSentencePrediction"),
        (("pooler", "masked-LM head", "next-sentence head"), "BertForPreTraining"),
        (("pooler", "masked-LM head", "classifier"), "BertForSequenceClassification"),
        (("answer-span head",), "BertForQuestionAnswering"),
    ],
)
def test_the_architecture_is_that_of_the_heads(checkpoint: Checkpoint, tmp_path: Path, heads, architecture) -> None:
    shapes = head_shapes(checkpoint.bert_config, labels=2)
    weights = initial_weights(
        {name: size for head in (ENCODER, *heads) for name, size in shapes[head].items()}, 0.02, 1
    )
    assert config_of(tmp_path, checkpoint, weights=weights)["architectures"] == [architecture]


def test_a_configurations_further_keys_do_not_change_what_the_model_is(checkpoint: Checkpoint, tmp_path: Path) -> None:
    extras = {"hidden_act": "relu", "model_type": "other", "layer_norm_eps": 1.0, "num_labels": 9, "note": None}
    config = config_of(tmp_path, checkpoint, config_extras=extras)
    assert (config["hidden_act"], config["model_type"], config["layer_norm_eps"]) == (
        "gelu_pytorch_tanh",
        "bert",
        1e-12,
    )
    assert "num_labels" not in config
    assert config["note"] is None


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
    config = config_of(tmp_path, checkpoint, weights=weights, state={"step": 5, "labels": ["no", "yes"]})
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert config["label2id"] == {"no": 0, "yes": 1}
    assert load_file(tmp_path / "model.safetensors")["classifier.weight"].shape == (2, 32)
    config = config_of(tmp_path, checkpoint, weights=weights)
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    with pytest.raises(ValueError, match=r"the model has 1 labels \(yes\), its classifier 2"):
        config_of(tmp_path, checkpoint, weights=weights, state={"step": 5, "labels": ["yes"]})


def test_adam_slots_are_left_out_and_counted(checkpoint: Checkpoint, tmp_path: Path) -> None:
    slots = {f"{name}/{kind}": array for name, array in checkpoint.weights.items() for kind in ("adam_m", "adam_v")}
    counts = write_huggingface(tmp_path, dataclasses.replace(checkpoint, slots=slots))
    assert (counts["tensors"], counts["slots_left_out"]) == (46, 92)
    assert len(load_file(tmp_path / "model.safetensors")) == 46


def test_a_part_that_is_not_whole_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = {name: array for name, array in checkpoint.weights.items() if name != "cls/predictions/output_bias"}
    with pytest.raises(ValueError, match="the masked-LM head is not whole, cls/predictions/output_bias missing"):
        config_of(tmp_path, checkpoint, weights=weights)
