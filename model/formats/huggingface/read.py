"""A Hugging Face or sentence-transformers folder of a BERT -> our model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.formats.huggingface.config import OTHER_CLASSIFIERS, ReadConfig, read_config
from bertline.model.formats.huggingface.sentence_transformers import MODULES_FILE, read_modules
from bertline.model.formats.huggingface.tokenizer import read_tokenizer
from bertline.model.formats.huggingface.weight_files import Tensors, read_tensors
from bertline.model.formats.huggingface.write import original_name, transpose_kernel
from bertline.model.formats.loaded_model import CLASSIFIER, LoadedModel, find_heads, find_unused
from bertline.model.training.checkpoint import Checkpoint

CONFIG_FILE = "config.json"
PREFIX = "bert."
WITHOUT_PREFIX = ("embeddings.", "encoder.", "pooler.")  # how a BertModel that was saved alone names its tensors
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
HEAD = "cls.predictions."
# The masked-word decoder's two tensors, which our model shares with these.
TIED = {f"{HEAD}decoder.weight": EMBEDDINGS, f"{HEAD}decoder.bias": f"{HEAD}bias"}


def read_huggingface(path: Path) -> LoadedModel:
    """The model in a folder with config.json, or with modules.json as sentence-transformers writes it.

    How the latter makes one vector of a sentence is kept in the checkpoint's state ("pooling", "normalize", ...).
    Raises FileNotFoundError for a missing file, and ValueError for another kind of model, for settings that our
    model does not compute with, and for weights that are not whole or do not fit the configuration.
    """
    format_name, folder, state, remarks = "huggingface", path, {}, []
    if (path / MODULES_FILE).is_file():
        modules = read_modules(path)
        format_name, folder, state, remarks = "sentence-transformers", modules.folder, modules.state, modules.remarks
    config = read_config(folder / CONFIG_FILE)
    tensors, weight_remarks = read_tensors(folder)
    tensors, tied_remarks, left_out = _drop_tied(_add_prefix(tensors, folder))
    weights, their_names = _rename(tensors, folder)
    strange = find_unused(weights, config.bert_config)
    weights = {name: array for name, array in weights.items() if name not in strange}
    heads = find_heads(weights, config.bert_config, folder)
    tokenizer = read_tokenizer(folder, config.bert_config.vocab_size)
    head_state, head_remarks = _read_labels(config, weights, folder) if CLASSIFIER in heads else ({}, [])
    checkpoint = Checkpoint(
        bert_config=config.bert_config,
        weights=weights,
        vocabulary=tokenizer.vocabulary,
        do_lower_case=tokenizer.do_lower_case,
        state={"step": 0, **state, **head_state},
        config_extras=config.extras,
    )
    remarks = [*remarks, *config.remarks, *weight_remarks, *tied_remarks, *head_remarks, *tokenizer.remarks]
    not_used = sorted([*left_out, *(their_names[name] for name in strange)])
    return LoadedModel(path, format_name, checkpoint, heads, tuple(not_used), tuple(remarks))


def _add_prefix(tensors: Tensors, folder: Path) -> Tensors:
    """The tensors as a model with heads names them; ValueError for one that is there twice."""
    found: Tensors = {}
    for name, array in tensors.items():
        full = f"{PREFIX}{name}" if name.startswith(WITHOUT_PREFIX) else name
        if full in found:
            raise ValueError(f"{folder}: holds {full} twice, with and without {PREFIX}; it is not one model's weights")
        found[full] = array
    return found


def _drop_tied(tensors: Tensors) -> tuple[Tensors, list[str], list[str]]:
    """The tensors without the decoder that our model shares with the embeddings; remarks; names left out.

    A decoder of its own cannot be held, so that head is left out as a whole: half of it would predict other words.
    """
    kept = dict(tensors)
    for copy, original in TIED.items():
        if copy not in kept:
            continue
        array = kept.pop(copy)
        if original not in kept and original != EMBEDDINGS:
            kept[original] = array  # files in which the decoder's bias stands for both
        elif not np.array_equal(array, kept.get(original, array)):
            left_out = sorted(name for name in tensors if name.startswith(HEAD))
            rest = {name: array for name, array in tensors.items() if name not in left_out}
            remark = f"{copy} differs from {original}, which our model shares; the masked-LM head was left out"
            return rest, [remark], left_out
    return kept, [], []


def _rename(tensors: Tensors, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The weights by our names, and our names -> theirs."""
    weights: dict[str, np.ndarray] = {}
    their_names: dict[str, str] = {}
    for theirs, array in tensors.items():
        ours = original_name(theirs)
        if ours in weights:
            raise ValueError(f"{folder}: {theirs} and {their_names[ours]} are one variable; take the files as released")
        # A copy, not a transposed view: training and safetensors want rows in one piece.
        weights[ours] = np.ascontiguousarray(transpose_kernel(ours, array))
        their_names[ours] = theirs
    return weights, their_names


def _read_labels(
    config: ReadConfig, weights: Mapping[str, np.ndarray], folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """What the state says of a classifier, and remarks."""
    count = weights["output_weights"].shape[0]
    labels = config.labels or [f"LABEL_{number}" for number in range(count)]  # as transformers names them
    if len(labels) != count:
        raise ValueError(f"{folder / CONFIG_FILE}: id2label has {len(labels)} labels, classifier.weight {count} rows")
    meaning = OTHER_CLASSIFIERS.get(config.architecture)
    if meaning is None:
        return {"labels": labels}, []
    remark = f"a {config.architecture}: its classifier {meaning}"
    return {"labels": labels, "architecture": config.architecture}, [remark]
