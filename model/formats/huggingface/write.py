"""Our model -> the folder that Hugging Face transformers loads; variable names <-> its tensor names."""

import re
from pathlib import Path

import numpy as np

from bertline.model.formats.files import write_json
from bertline.model.formats.huggingface.config import make_config
from bertline.model.formats.huggingface.tokenizer import write_tokenizer
from bertline.model.formats.loaded_model import find_heads
from bertline.model.training.checkpoint import Checkpoint, write_arrays
from bertline.tokenizer.wordpiece import parse_vocabulary

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


def write_huggingface(folder: Path, checkpoint: Checkpoint) -> dict[str, int | float]:
    """Write weights, configuration and tokenizer into an existing folder; returns counts.

    The weights are those of the checkpoint, bit for bit; the masked-word decoder that shares them is left to
    transformers, which makes it. Adam's slots have no place in this format: they are left out, and counted.
    """
    heads = find_heads(checkpoint.weights, checkpoint.bert_config, folder)
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    tensors = {huggingface_name(name): transpose_kernel(name, array) for name, array in checkpoint.weights.items()}
    write_arrays(folder / "model.safetensors", tensors, metadata={"format": "pt"})
    write_json(folder / "config.json", make_config(checkpoint, heads, vocabulary.pad_id))
    write_tokenizer(folder, checkpoint, vocabulary)
    counts: dict[str, int | float] = {
        "tensors": len(tensors),
        "parameters": sum(tensor.size for tensor in tensors.values()),
    }
    return counts | ({"slots_left_out": len(checkpoint.slots)} if checkpoint.slots else {})


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


def transpose_kernel(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the other library keeps it: PyTorch has dense kernels as [outputs, inputs]."""
    return array.T if name.endswith("/kernel") else array
