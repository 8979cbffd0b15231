"""A SavedModel of a BERT encoder -> our model: our own, and TF Hub's in the names of TensorFlow Model Garden.

The variables' file is read, the model itself is never run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.config import BertConfig, read_config_and_extras
from bertline.model.formats.case import infer_case
from bertline.model.formats.files import read_bytes, read_object, require_fetched
from bertline.model.formats.loaded_model import LoadedModel, find_heads, find_unused
from bertline.model.formats.savedmodel.tf_hub import (
    find_activation,
    infer_config,
    require_whole_graph,
    reshape_array,
    translate_name,
)
from bertline.model.formats.savedmodel.write import EXTRA_FOLDER, STATE_FILE
from bertline.model.training.checkpoint import BERT_CONFIG_FILE, TOKENIZER_FILE, VOCABULARY_FILE, Checkpoint
from bertline.tokenizer.wordpiece import Vocabulary, parse_vocabulary

GRAPH_FILE = "saved_model.pb"
PREFIX = Path("variables") / "variables"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
CASE = "do_lower_case"
WORDS = "bert/embeddings/word_embeddings"
SHOWN = 3

Arrays = dict[str, np.ndarray]


def read_savedmodel(path: Path) -> LoadedModel:
    """The model in a SavedModel's folder.

    Raises FileNotFoundError for variables or a vocabulary that are not there, ValueError for files that are cut, and
    for a model that is not a BERT encoder.
    """
    found = _read_variables(path)
    if (path / EXTRA_FOLDER / BERT_CONFIG_FILE).is_file():
        return _read_own(path, found)
    return _read_foreign(path, found)


def _read_foreign(path: Path, found: "_Found") -> LoadedModel:
    """One of another library: names are translated, the configuration is inferred."""
    weights, others = _rename(path, found.arrays)
    hidden_act, activation_remark = find_activation(path / GRAPH_FILE)
    try:
        config, remarks = infer_config(weights, hidden_act)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    weights = {name: np.ascontiguousarray(reshape_array(name, array)) for name, array in weights.items()}
    strange = find_unused(weights, config)
    weights = {name: array for name, array in weights.items() if name not in strange}
    content, vocabulary = _read_vocabulary(path, config)
    do_lower_case, how = (found.lower, None) if found.lower is not None else infer_case(vocabulary, path, path)
    remarks = [f"its configuration is what its shapes say; {activation_remark}", *remarks, *([how] if how else [])]
    checkpoint = Checkpoint(config, weights, content, bool(do_lower_case), {"step": 0})
    heads = find_heads(weights, config, path)
    return LoadedModel(path, "savedmodel", checkpoint, heads, tuple(sorted([*others, *strange])), tuple(remarks))


def _read_own(path: Path, found: "_Found") -> LoadedModel:
    """One that `write_savedmodel` wrote: names, configuration and state are there."""
    require_whole_graph(path / GRAPH_FILE)
    extra = path / EXTRA_FOLDER
    config, extras = read_config_and_extras(extra / BERT_CONFIG_FILE)
    content, _ = _read_vocabulary(path, config)
    weights = {name: array for name, array in found.arrays.items() if name != CASE}
    strange = find_unused(weights, config)
    weights = {name: array for name, array in weights.items() if name not in strange}
    lower = bool(read_object(extra / TOKENIZER_FILE).get("do_lower_case", True))
    state = {"step": 0, **read_object(extra / STATE_FILE)}
    checkpoint = Checkpoint(config, weights, content, lower, state, config_extras=extras)
    return LoadedModel(path, "savedmodel", checkpoint, find_heads(weights, config, path), tuple(strange))


def _read_vocabulary(path: Path, config: BertConfig) -> tuple[bytes, Vocabulary]:
    """The vocab.txt among the assets; ValueError for one without an entry for each row of the embeddings."""
    file = path / "assets" / VOCABULARY_FILE
    content = read_bytes(file)
    vocabulary = parse_vocabulary(content, str(file))
    if len(vocabulary) != config.vocab_size:
        raise ValueError(
            f"{path}: assets/{VOCABULARY_FILE} has {len(vocabulary):,} entries, the model {config.vocab_size:,} "
            "embeddings; take the folder as it was released"
        )
    return content, vocabulary


def _rename(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, list[str]]:
    """The arrays by our names, and the names of those that have none; ValueError without an encoder."""
    weights: Arrays = {}
    others = []
    for name, array in arrays.items():
        ours = translate_name(name)
        if ours is None:
            others.append(name)
        elif ours in weights and not np.array_equal(weights[ours], array):
            raise ValueError(f"{path}: holds {ours} twice, with other values; it is not one model's weights")
        else:
            weights[ours] = array
    if WORDS not in weights:
        shown = ", ".join(sorted(arrays)[:SHOWN]) or "none"
        raise ValueError(f"{path}: not a BERT encoder; word embeddings are not among its variables, {shown} ...")
    return weights, others


@dataclass(frozen=True)
class _Found:
    arrays: Arrays  # by the variables' full names
    lower: bool | None  # the variable do_lower_case of TF Hub's modules


def _read_variables(path: Path) -> _Found:
    """The floating-point variables of the model, each verified against its checksum."""
    import tensorflow as tf

    require_fetched(path / GRAPH_FILE)
    index = path / PREFIX.with_name("variables.index")
    if not index.is_file():
        raise FileNotFoundError(f"{index}: missing; take the folder as it was released")
    with _explain_damage(path):
        reader = tf.train.load_checkpoint(str(path / PREFIX))
        keys, lower_key = _find_keys(reader)
        lower = bool(reader.get_tensor(lower_key)) if lower_key else None
        arrays = {name: np.asarray(reader.get_tensor(key)) for name, key in sorted(keys.items())}
    floats = {name: array.astype(np.float32, copy=False) for name, array in arrays.items() if array.dtype.kind == "f"}
    return _Found(floats, lower)


def _find_keys(reader: Any) -> tuple[dict[str, str], str]:
    """Full name -> key in the checkpoint, and the key of the variable that says whether text is lower-cased.

    Modules for TensorFlow 1 have no objects: their keys are names.
    """
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    if not reader.has_tensor(OBJECT_GRAPH):
        return {name: name for name in reader.get_variable_to_shape_map()}, ""
    nodes: Any = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH)).nodes
    keys: dict[str, str] = {}
    for attribute in (attribute for node in nodes for attribute in node.attributes):
        name, key = attribute.full_name, attribute.checkpoint_key
        if name and keys.get(name, key) != key:
            name = f"{name} ({key})"  # another variable of the same name: reported as find_unused
        if name:
            keys[name] = key
    lower = next((child.node_id for child in nodes[0].children if child.local_name == CASE), None)
    return keys, nodes[lower].attributes[0].checkpoint_key if lower is not None and nodes[lower].attributes else ""


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """TensorFlow's errors on damaged files as ValueErrors that name the folder."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        yield
    except (tf.errors.OpError, IndexError, DecodeError) as error:
        reason = getattr(error, "message", str(error))
        raise ValueError(
            f"{path / PREFIX}: cut short or changed ({reason}); copy or download the folder again"
        ) from error
