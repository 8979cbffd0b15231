"""Names of variables and tensors, and which arrays are transposed between them."""

import dataclasses

import numpy as np
import pytest

from bertline.model.formats.huggingface.write import huggingface_name, original_name, transpose_kernel
from bertline.model.formats.loaded_model import head_shapes


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
        ("bert/embeddings/LayerNorm/gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert/encoder/layer_11/attention/self/query/kernel", "bert.encoder.layer.11.attention.self.query.weight"),
        ("bert/encoder/layer_0/output/LayerNorm/beta", "bert.encoder.layer.0.output.LayerNorm.bias"),
        ("bert/pooler/dense/bias", "bert.pooler.dense.bias"),
        ("cls/predictions/transform/dense/kernel", "cls.predictions.transform.dense.weight"),
        ("cls/predictions/transform/LayerNorm/gamma", "cls.predictions.transform.LayerNorm.weight"),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
        ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
        ("output_weights", "classifier.weight"),
        ("output_bias", "classifier.bias"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("cls/squad/output_bias", "qa_outputs.bias"),
    ],
)
def test_names(ours: str, theirs: str) -> None:
    assert huggingface_name(ours) == theirs
    assert original_name(theirs) == ours


def test_every_variable_of_every_part_has_a_name_of_its_own_and_comes_back(toy) -> None:
    shape = dataclasses.replace(toy, num_hidden_layers=12)
    names = [name for shapes in head_shapes(shape, labels=3).values() for name in shapes]
    theirs = [huggingface_name(name) for name in names]
    assert len(set(theirs)) == len(names)
    assert [original_name(name) for name in theirs] == names


def test_layer_norms_of_2018_are_read() -> None:
    assert original_name("bert.embeddings.LayerNorm.gamma") == "bert/embeddings/LayerNorm/gamma"
    assert original_name("bert.encoder.layer.3.output.LayerNorm.beta") == "bert/encoder/layer_3/output/LayerNorm/beta"


def test_dense_kernels_are_transposed_and_nothing_else() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert transpose_kernel("bert/pooler/dense/kernel", array).shape == (3, 2)
    for name in ("output_weights", "cls/seq_relationship/output_weights", "bert/embeddings/word_embeddings"):
        assert transpose_kernel(name, array).shape == (2, 3)
