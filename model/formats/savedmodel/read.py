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
from bertline.model.formats.case import case_of
from bertline.model.formats.files import read_bytes, read_object, refuse_pointer
from bertline.model.formats.loaded_model import Opened
from bertline.model.formats.parts import parts_of, unused
from bertline.model.formats.savedmodel.activation import activation_of
from bertline.model.formats.savedmodel.tfmodels_names import inferred_config, our_array, our_name
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


def read_savedmodel(path: Path) -> Opened:
    """The model in a SavedModel's folder.

    Raises FileNotFoundError for variables or a vocabulary that are not there, ValueError for files that are cut, and
    for a model that is no BERT encoder.
    """
    found = _variables(path)
    if (path / EXTRA_FOLDER / BERT_CONFIG_FILE).is_file():
        return _own(path, found)
    return _foreign(path, found)


def _foreign(path: Path, found: "_Found") -> Opened:
    """One of another library: names are translated, the configuration is inferred."""
    weights, others = _renamed(path, found.arrays)
    hidden_act, activation_remark = activation_of(path / GRAPH_FILE)
    try:
        config, remarks = inferred_config(weights, hidden_act)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    weights = {name: np.ascontiguousarray(our_array(name, array)) for name, array in weights.items()}
    strange = unused(weights, config)
    weights = {name: array for name, array in weights.items() if name not in strange}
    content, vocabulary = _vocabulary(path, config)
    do_lower_case, how = (found.lower, None) if found.lower is not None else case_of(vocabulary, path, path)
    remarks = [f"its configuration is what its shapes say; {activation_remark}", *remarks, *([how] if how else [])]
    checkpoint = Checkpoint(config, weights, content, bool(do_lower_case), {"step": 0})
    parts = tuple(parts_of(weights, config, path))
    return Opened(path, "savedmodel", checkpoint, parts, tuple(sorted([*others, *strange])), tuple(remarks))


def _own(path: Path, found: "_Found") -> Opened:
    """One that `write_savedmodel` wrote: names, configuration and state are there."""
    activation_of(path / GRAPH_FILE)  # refuses a graph that was cut
    extra = path / EXTRA_FOLDER
    config, extras = read_config_and_extras(extra / BERT_CONFIG_FILE)
    content, _ = _vocabulary(path, config)
    weights = {name: array for name, array in found.arrays.items() if name != CASE}
    strange = unused(weights, config)
    weights = {name: array for name, array in weights.items() if name not in strange}
    lower = bool(read_object(extra / TOKENIZER_FILE).get("do_lower_case", True))
    state = {"step": 0, **read_object(extra / STATE_FILE)}
    checkpoint = Checkpoint(config, weights, content, lower, state, config_extras=extras)
    return Opened(path, "savedmodel", checkpoint, tuple(parts_of(weights, config, path)), tuple(strange))


def _vocabulary(path: Path, config: BertConfig) -> tuple[bytes, Vocabulary]:
    """The vocab.txt among the assets; ValueError for one that has not an entry for each row of the embeddings."""
    file = path / "assets" / VOCABULARY_FILE
    content = read_bytes(file)
    vocabulary = parse_vocabulary(content, str(file))
    if len(vocabulary) != config.vocab_size:
        raise ValueError(
            f"{path}: assets/{VOCABULARY_FILE} has {len(vocabulary):,} entries, the model {config.vocab_size:,} "
            "embeddings; take the folder as it was released"
        )
    return content, vocabulary


def _renamed(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, list[str]]:
    """The arrays by our names, and the names of those that have none; ValueError for no encoder."""
    weights: Arrays = {}
    others = []
    for name, array in arrays.items():
        ours = our_name(name)
        if ours is None:
            others.append(name)
        elif ours in weights and not np.array_equal(weights[ours], array):
            raise ValueError(f"{path}: holds {ours} twice, with other values; it is not one model's weights")
        else:
            weights[ours] = array
    if WORDS not in weights:
        shown = ", ".join(sorted(arrays)[:SHOWN]) or "none"
        raise ValueError(f"{path}: no BERT encoder; its variables are {shown} ..., word embeddings are not among them")
    return weights, others


@dataclass(frozen=True)
class _Found:
    arrays: Arrays  # by the variables' full names
    lower: bool | None  # the variable do_lower_case of TF Hub's modules


def _variables(path: Path) -> _Found:
    """The floating-point variables of the model, each verified against its checksum."""
    import tensorflow as tf

    refuse_pointer(path / GRAPH_FILE)
    index = path / PREFIX.with_name("variables.index")
    if not index.is_file():
        raise FileNotFoundError(f"{index}: missing; take the folder as it was released")
    with _named_errors(path):
        reader = tf.train.load_checkpoint(str(path / PREFIX))
        keys, lower_key = _keys(reader)
        lower = bool(reader.get_tensor(lower_key)) if lower_key else None
        arrays = {name: np.asarray(reader.get_tensor(key)) for name, key in sorted(keys.items())}
    floats = {name: array.astype(np.float32, copy=False) for name, array in arrays.items() if array.dtype.kind == "f"}
    return _Found(floats, lower)


def _keys(reader: Any) -> tuple[dict[str, str], str]:
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
            name = f"{name} ({key})"  # another variable of the same name: reported as unused
        if name:
            keys[name] = key
    lower = next((child.node_id for child in nodes[0].children if child.local_name == CASE), None)
    return keys, nodes[lower].attributes[0].checkpoint_key if lower is not None and nodes[lower].attributes else ""


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
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
