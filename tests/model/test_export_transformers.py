"""The exported folder in Hugging Face transformers computes what our model computes.

Runs where the `check` extra (torch, transformers) is installed.
"""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from bertline.model.bert import initial_weights
from bertline.model.checkpoints.state import Checkpoint, write_checkpoint
from bertline.model.export import ExportConfig, run
from bertline.model.heads import (
    classifier_logits,
    classifier_shapes,
    encode_batch,
    masked_lm_logits,
    next_sentence_logits,
    pretraining_shapes,
)
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
