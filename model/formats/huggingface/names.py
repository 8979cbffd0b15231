"""google-research/bert's variable names <-> Hugging Face's tensor names; kernels are transposed between them."""

import re

import numpy as np

HEADS = {  # whose names follow no rule
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
    "cls/squad/output_weights": "qa_outputs.weight",
    "cls/squad/output_bias": "qa_outputs.bias",
}
LAST_PARTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "output_weights": "weight",
    "output_bias": "bias",
}
OLD_LAST_PARTS = {"gamma": "weight", "beta": "bias"}  # of LayerNorm in Hugging Face's files of 2018 and 2019
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def huggingface_name(name: str) -> str:
    """bert/encoder/layer_0/attention/self/query/kernel is bert.encoder.layer.0.attention.self.query.weight.

    Hugging Face's masked-word decoder has two tied tensors more, which its own files leave out, too.
    """
    if name in HEADS:
        return HEADS[name]
    path = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name)
    parent, last = path.rsplit("/", 1)
    path = f"{parent}/{LAST_PARTS[last]}" if last in LAST_PARTS else f"{path}/weight"  # the embedding tables
    return path.replace("/", ".")


def original_name(name: str) -> str:
    """The inverse of `huggingface_name`; old spellings of LayerNorm are taken, too. Other names come back changed."""
    known = {theirs: ours for ours, theirs in HEADS.items()}
    if name in known:
        return known[name]
    parent, _, last = name.rpartition(".")
    last = OLD_LAST_PARTS.get(last, last)
    owner = parent.rpartition(".")[2]
    path = re.sub(r"\.layer\.(\d+)\.", r"/layer_\1/", parent).replace(".", "/")
    if owner in EMBEDDINGS:
        return path
    if owner == "LayerNorm":
        return f"{path}/{'gamma' if last == 'weight' else 'beta'}"
    if owner in ("predictions", "seq_relationship"):
        return f"{path}/{'output_weights' if last == 'weight' else 'output_bias'}"
    return f"{path}/{'kernel' if last == 'weight' else last}"


def transposed(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the other library keeps it: PyTorch has dense kernels as [outputs, inputs]."""
    return array.T if name.endswith("/kernel") else array
