"""Hugging Face transformers computes what our model computes: from folders that we wrote, and that it saved.

Runs where the `check` extra (torch, transformers) is installed.
"""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from bertline.model.bert import initial_weights
from bertline.model.config import classifier_shapes, encoder_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.export import ExportConfig, run
from bertline.model.formats.huggingface.read import read_huggingface
from bertline.model.heads import classifier_logits, encode_batch, masked_lm_logits, next_sentence_logits, span_logits
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


def exported(checkpoint: Checkpoint, folder: Path) -> Path:
    source, out = folder / "source", folder / "exported"
    source.mkdir()
    out.mkdir()
    write_checkpoint(source, checkpoint)
    run(source, out, ExportConfig())
    return out


def inputs_of(batch: dict[str, np.ndarray]) -> dict[str, "torch.Tensor"]:
    names = {"input_ids": "input_ids", "input_mask": "attention_mask", "segment_ids": "token_type_ids"}
    return {theirs: torch.tensor(batch[ours].astype(np.int64)) for ours, theirs in names.items()}


def test_hidden_states_and_log_probabilities_are_equal(toy, toy_folder: Path, toy_batch, tmp_path: Path) -> None:
    weights = initial_weights(pretraining_shapes(toy), 0.2, seed=5)
    folder = exported(Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 1}), tmp_path)
    model, loading = transformers.AutoModelForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    batch = toy_batch(4)
    with torch.no_grad():
        theirs = model.eval()(**inputs_of(batch), output_hidden_states=True)
    encoded = encode_batch(weights, toy, batch)
    for ours, hidden in zip((encoded.embeddings, *encoded.layers), theirs.hidden_states, strict=True):
        np.testing.assert_allclose(np.asarray(ours), hidden.numpy(), atol=1e-5)
    everywhere = np.tile(np.arange(16, dtype=np.int32), (4, 1))
    words = ops.log_softmax(masked_lm_logits(weights, toy, encoded.sequence, everywhere))
    np.testing.assert_allclose(np.asarray(words), theirs.prediction_logits.log_softmax(-1).numpy(), atol=2e-5)
    sentences = ops.log_softmax(next_sentence_logits(weights, encoded.pooled))
    np.testing.assert_allclose(np.asarray(sentences), theirs.seq_relationship_logits.log_softmax(-1).numpy(), atol=1e-5)


def test_a_classifier_is_equal(toy, toy_folder: Path, toy_batch, tmp_path: Path) -> None:
    weights = initial_weights(classifier_shapes(toy, 3), 0.2, seed=5)
    state = {"step": 1, "labels": ["a", "b", "c"]}
    folder = exported(Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, state), tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    batch = toy_batch(4)
    with torch.no_grad():
        theirs = model.eval()(**inputs_of(batch)).logits.numpy()
    ours = classifier_logits(weights, encode_batch(weights, toy, batch).pooled)
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-5)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_tokenizer_is_equal(toy, toy_folder: Path, tmp_path: Path, do_lower_case: bool) -> None:
    weights = initial_weights(pretraining_shapes(toy), 0.2, seed=5)
    vocabulary = (toy_folder / "vocab.txt").read_bytes()
    folder = exported(Checkpoint(toy, weights, vocabulary, do_lower_case, {"step": 1}), tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = WordPieceTokenizer(load_vocabulary(folder / "vocab.txt"), do_lower_case)
    first, second = "Word1 word2 WORD3, w\u00f3rd4", "word5 \u529b word6"
    expected = encode_pairs(ours, [first], [second], 16)
    found = theirs(first, second, padding="max_length", max_length=16)
    assert found["input_ids"] == expected["input_ids"][0].tolist()
    assert found["token_type_ids"] == expected["segment_ids"][0].tolist()
    assert found["attention_mask"] == expected["input_mask"][0].tolist()
    assert theirs.model_max_length == 32


SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}


def saved(folder: Path, toy_folder: Path, kind: str, **settings) -> "torch.nn.Module":
    """A fresh model of transformers, saved as it saves one, beside a vocabulary."""
    torch.manual_seed(3)
    model = getattr(transformers, kind)(transformers.BertConfig(**SHAPE, **settings)).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((toy_folder / "vocab.txt").read_bytes())
    return model


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_fast", "gelu_accurate", "relu", "tanh"])
def test_a_pretraining_model_that_transformers_saved_is_equal(
    toy_folder: Path, toy_batch, tmp_path: Path, activation: str
) -> None:
    model = saved(tmp_path, toy_folder, "BertForPreTraining", hidden_act=activation)
    opened = read_huggingface(tmp_path)
    assert opened.heads == ("pooler", "masked-LM head", "next-sentence head")
    assert opened.unused == ()
    weights, config, batch = opened.checkpoint.weights, opened.checkpoint.bert_config, toy_batch(4)
    with torch.no_grad():
        theirs = model(**inputs_of(batch), output_hidden_states=True)
    encoded = encode_batch(weights, config, batch)
    for ours, hidden in zip((encoded.embeddings, *encoded.layers), theirs.hidden_states, strict=True):
        np.testing.assert_allclose(np.asarray(ours), hidden.numpy(), atol=1e-5)
    everywhere = np.tile(np.arange(16, dtype=np.int32), (4, 1))
    words = masked_lm_logits(weights, config, encoded.sequence, everywhere)
    np.testing.assert_allclose(np.asarray(words), theirs.prediction_logits.numpy(), atol=1e-4)
    sentences = next_sentence_logits(weights, encoded.pooled)
    np.testing.assert_allclose(np.asarray(sentences), theirs.seq_relationship_logits.numpy(), atol=1e-5)


def test_a_question_answering_model_is_equal_both_ways(toy, toy_folder: Path, toy_batch, tmp_path: Path) -> None:
    theirs = saved(tmp_path, toy_folder, "BertForQuestionAnswering")
    opened = read_huggingface(tmp_path)
    assert opened.heads == ("answer-span head",)
    weights = {name: array for name, array in initial_weights(span_shapes(toy), 0.2, 5).items() if "pooler" not in name}
    own = Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 1})
    ours = transformers.AutoModelForQuestionAnswering.from_pretrained(exported(own, tmp_path)).eval()
    batch = toy_batch(4)
    for model, checkpoint in ((theirs, opened.checkpoint), (ours, own)):
        with torch.no_grad():
            outputs = model(**inputs_of(batch))
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).numpy()
        encoded = encode_batch(checkpoint.weights, checkpoint.bert_config, batch)
        np.testing.assert_allclose(np.asarray(span_logits(checkpoint.weights, encoded.sequence)), logits, atol=1e-5)


@pytest.mark.parametrize("kind", ["BertForTokenClassification", "BertForSequenceClassification"])
def test_a_classifier_that_transformers_saved_comes_back_to_it(toy_folder: Path, tmp_path: Path, kind: str) -> None:
    theirs = saved(tmp_path, toy_folder, kind, id2label={0: "O", 1: "B", 2: "I"}, label2id={"O": 0, "B": 1, "I": 2})
    opened = read_huggingface(tmp_path)
    assert opened.checkpoint.state["labels"] == ["O", "B", "I"]
    again, loading = getattr(transformers, kind).from_pretrained(
        exported(opened.checkpoint, tmp_path), output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert again.config.architectures == [kind]
    assert again.config.id2label == {0: "O", 1: "B", 2: "I"}
    found = again.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in theirs.state_dict().items())


def test_an_untied_decoder_leaves_the_masked_lm_head_out(toy_folder: Path, tmp_path: Path) -> None:
    saved(tmp_path, toy_folder, "BertForMaskedLM", tie_word_embeddings=False)
    opened = read_huggingface(tmp_path)
    assert opened.heads == ()
    assert "cls.predictions.decoder.weight" in opened.unused
    assert "the masked-LM head was left out" in opened.remarks[0]


def test_an_encoder_alone_in_half_precision_is_read(toy_folder: Path, tmp_path: Path) -> None:
    model = saved(tmp_path, toy_folder, "BertModel", dtype=torch.bfloat16).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    opened = read_huggingface(tmp_path)
    assert opened.heads == ("pooler",)
    assert opened.remarks[0] == "39 of 39 tensors were bfloat16, widened to float32 without loss"
    pooler = model.state_dict()["pooler.dense.weight"].float().numpy()
    assert np.array_equal(opened.checkpoint.weights["bert/pooler/dense/kernel"], pooler.T)


def test_a_file_of_torch_gives_the_same_weights_as_safetensors(toy_folder: Path, tmp_path: Path) -> None:
    model = saved(tmp_path, toy_folder, "BertForPreTraining")
    expected = read_huggingface(tmp_path).checkpoint.weights
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    found = read_huggingface(tmp_path)
    assert sorted(found.checkpoint.weights) == sorted(expected)
    assert all(array.tobytes() == expected[name].tobytes() for name, array in found.checkpoint.weights.items())


def test_a_tokenizer_that_transformers_saved_is_read(toy, toy_folder: Path, tmp_path: Path) -> None:
    own = Checkpoint(
        toy, initial_weights(encoder_shapes(toy), 0.2, 5), (toy_folder / "vocab.txt").read_bytes(), False, {"step": 1}
    )
    folder = exported(own, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    found = read_huggingface(folder)
    assert (found.checkpoint.vocabulary, found.checkpoint.do_lower_case) == (own.vocabulary, False)
    assert found.remarks == ()
