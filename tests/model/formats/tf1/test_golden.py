"""Checkpoints that the original wrote under TensorFlow 1.15: its outputs, and the same bytes when written again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bertline.model.formats.detect import read_model
from bertline.model.formats.loaded_model import LoadedModel
from bertline.model.formats.tf1.checkpoint import read_tf1, write_tf1
from bertline.model.heads import (
    classifier_logits,
    encode_batch,
    masked_lm_logits,
    next_sentence_logits,
)
from bertline.model.training.checkpoint import Checkpoint

pytestmark = pytest.mark.golden

TOLERANCE = 2e-6  # in float32, between two libraries' kernels
PRETRAINED = ("pooler", "masked-LM head", "next-sentence head")
LOWERED = "text is lower-cased and stripped of accents: none of 972 pieces has a capital letter"
SHARD = ".data-00000-of-00001"


def opened_at(reference: Path, place: str) -> LoadedModel:
    """A checkpoint of the reference; vocabulary and configuration lie one folder above it."""
    files = {"vocab_file": reference / "vocab.txt", "bert_config_file": reference / "bert_config.json"}
    return read_model(reference / place, **files)


def assert_written_again_equal(model: Checkpoint, original: Path, folder: Path) -> None:
    """The bytes of what we write are those of the original's own files."""
    write_tf1(folder, model, original.name)
    for ending in (".index", SHARD):
        name = f"{original.name}{ending}"
        assert (folder / name).read_bytes() == (original.parent / name).read_bytes(), name


def test_the_weights_are_those_of_the_original_bit_for_bit(reference: Path) -> None:
    opened = opened_at(reference, "tf1_checkpoint")
    assert (opened.format, opened.heads, opened.unused) == ("tf1", PRETRAINED, ())
    assert opened.remarks == (LOWERED,)
    checkpoint = opened.checkpoint
    assert (checkpoint.state, checkpoint.do_lower_case) == ({"step": 40}, True)
    assert checkpoint.vocabulary == (reference / "vocab.txt").read_bytes()
    with np.load(reference / "model_weights.npz") as golden:
        assert sorted(name.replace("|", "/") for name in golden) == sorted(checkpoint.weights)
        for name in golden:
            found = checkpoint.weights[name.replace("|", "/")]
            assert (found.dtype, found.tobytes()) == (golden[name].dtype, golden[name].tobytes()), name
    assert checkpoint.slots is not None
    assert len(checkpoint.slots) == 2 * len(checkpoint.weights)


def test_the_outputs_are_those_of_the_original(reference: Path) -> None:
    checkpoint = opened_at(reference, "tf1_checkpoint").checkpoint
    weights, config = checkpoint.weights, checkpoint.bert_config
    with np.load(reference / "model_outputs.npz") as file:
        golden = dict(file)
    batch = {"input_ids": golden["ids"], "input_mask": golden["mask"], "segment_ids": golden["seg"]}
    encoded = encode_batch(weights, config, batch)
    words = log_softmax(masked_lm_logits(weights, config, encoded.sequence, golden["pos"]))
    found = {
        "emb": encoded.embeddings,
        "layer0": encoded.layers[0],
        "layer1": encoded.layers[1],
        "seq": encoded.sequence,
        "pooled": encoded.pooled,
        "mlm_lp": words.reshape(golden["mlm_lp"].shape),
        "nsp_lp": log_softmax(next_sentence_logits(weights, encoded.pooled)),
    }
    for name, values in found.items():
        np.testing.assert_allclose(np.asarray(values), golden[name], rtol=0, atol=TOLERANCE, err_msg=name)


def log_softmax(logits: object) -> np.ndarray:
    values = np.asarray(logits, np.float64)
    values -= values.max(axis=-1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("place", ["tf1_checkpoint/model.ckpt-40", "classifier/model.ckpt-6"])
def test_a_checkpoint_with_slots_written_again_is_the_same_bytes(reference: Path, place: str, tmp_path: Path) -> None:
    assert_written_again_equal(opened_at(reference, place).checkpoint, reference / place, tmp_path)


def test_the_released_layout_with_slots_is_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    folder = reference.parent / "data" / "checkpoints" / "tiny-tf1"
    if not folder.is_dir():
        pytest.skip(
            "the checkpoint of the released layout does not lie beside the reference",
        )
    opened = read_model(folder)
    assert (opened.heads, opened.unused) == (PRETRAINED, ())
    assert opened.checkpoint.config_extras["pooler_type"] == "first_token_transform"
    assert_written_again_equal(opened.checkpoint, folder / "bert_model.ckpt", tmp_path)
    assert (tmp_path / "bert_config.json").read_bytes() == (folder / "bert_config.json").read_bytes()
    again = read_tf1(tmp_path).checkpoint
    assert dataclasses.replace(again, weights={}, slots={}) == dataclasses.replace(
        opened.checkpoint, weights={}, slots={}
    )
    for ours, theirs in ((again.weights, opened.checkpoint.weights), (again.slots, opened.checkpoint.slots)):
        assert ours is not None
        assert theirs is not None
        assert {name: array.tobytes() for name, array in ours.items()} == {
            name: array.tobytes() for name, array in theirs.items()
        }


def test_the_classifier_gives_the_originals_probabilities(reference: Path) -> None:
    """test_results.tsv holds one line for each test example, the probabilities of the labels in order."""
    from bertline.tokenizer.encode import encode_pairs
    from bertline.tokenizer.wordpiece import WordPieceTokenizer, parse_vocabulary

    opened = opened_at(reference, "classifier")
    assert opened.heads == ("pooler", "classifier")
    assert opened.remarks[0] == "a TF1 checkpoint does not name its classifier's 2 labels; they are numbered from 0"
    checkpoint = opened.checkpoint
    assert checkpoint.state == {"step": 6, "labels": ["0", "1"]}
    rows = [line.split("\t") for line in (reference / "classifier" / "test.tsv").read_text().splitlines()[1:]]
    tokenizer = WordPieceTokenizer(parse_vocabulary(checkpoint.vocabulary, "vocab.txt"), checkpoint.do_lower_case)
    batch = encode_pairs(tokenizer, [row[3] for row in rows], [row[4] for row in rows], 32)
    pooled = encode_batch(checkpoint.weights, checkpoint.bert_config, batch).pooled
    probabilities = np.exp(log_softmax(classifier_logits(checkpoint.weights, pooled)))
    np.testing.assert_allclose(
        probabilities, np.loadtxt(reference / "classifier" / "test_results.tsv"), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("place", ["squad1/model.ckpt-2", "squad2/model.ckpt-3"])
def test_run_squads_checkpoint_has_no_slots_of_the_pooler(reference: Path, place: str, tmp_path: Path) -> None:
    opened = opened_at(reference, place)
    assert opened.heads == ("pooler", "answer-span head")
    assert opened.checkpoint.slots is None
    missing = "only 78 of 82 Adam slots are there, bert/pooler/dense/bias/adam_m is not; they were left out"
    assert opened.remarks == (missing, LOWERED)
    write_tf1(tmp_path, opened.checkpoint)
    again = read_tf1(tmp_path).checkpoint.weights
    assert all(again[name].tobytes() == array.tobytes() for name, array in opened.checkpoint.weights.items())
