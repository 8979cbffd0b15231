"""SavedModels of BERT encoders that TF Hub released -> our names, shapes and configuration.

Names are those of TensorFlow Model Garden, official/nlp/modeling (networks/bert_encoder.py,
layers/transformer_encoder_block.py, masked_lm.py) and the older modules (bert_modeling.py); both keep attention's
kernels as [hidden, heads, head size]. TF Hub's modules for TensorFlow 1 have the original's names, which are ours.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.config import BertConfig

NORM = r"(?P<last>gamma|beta)"
DENSE = r"(?P<last>kernel|bias)"
LAYER = r"layer_(?P<number>\d+)"
# The end of a variable's name -> ours; what stands before it differs from release to release.
PATTERNS = {
    r"word_embeddings/embeddings": "bert/embeddings/word_embeddings",
    r"(position_embedding/embeddings|position_embeddings)": "bert/embeddings/position_embeddings",
    r"type_embeddings(/embeddings)?": "bert/embeddings/token_type_embeddings",
    rf"(embeddings|embedding_postprocessor)/layer_norm/{NORM}": "bert/embeddings/LayerNorm/{last}",
    rf"{LAYER}/self_attention/(?P<part>query|key|value)/{DENSE}": "{layer}/attention/self/{part}/{last}",
    rf"{LAYER}/self_attention(/attention_output|_output)/{DENSE}": "{layer}/attention/output/dense/{last}",
    rf"{LAYER}/self_attention_layer_norm/{NORM}": "{layer}/attention/output/LayerNorm/{last}",
    rf"{LAYER}/intermediate/{DENSE}": "{layer}/intermediate/dense/{last}",
    rf"{LAYER}/output/{DENSE}": "{layer}/output/dense/{last}",
    rf"{LAYER}/output_layer_norm/{NORM}": "{layer}/output/LayerNorm/{last}",
    rf"pooler_transform/{DENSE}": "bert/pooler/dense/{last}",
    rf"cls/predictions/transform/dense/{DENSE}": "cls/predictions/transform/dense/{last}",
    rf"cls/predictions/transform/LayerNorm/{NORM}": "cls/predictions/transform/LayerNorm/{last}",
    r"cls/predictions/output_bias(/bias)?": "cls/predictions/output_bias",
    r"(?P<same>bert/(embeddings|encoder|pooler)/.+|cls/seq_relationship/.+)": "{same}",
}
SLOT = r"(^|/)(m|v|[Aa]dam\w*)(/|$)"  # of an optimizer, in the name of a variable that it belongs to
SIZE_OF_HEAD = 64  # of all released models
TANH_GELU = 0.044715  # the factor of x**3 in the tanh form of GELU (Hendrycks and Gimpel 2016)
TOLERANCE = 1e-6
TAKEN = "its graph does not show its activation, and the tanh form of GELU was taken, as Model Garden has it"

Node = Any


def translate_name(name: str) -> str | None:
    """Our name of a variable, None for one that an encoder or masked-LM head does not have."""
    if re.search(SLOT, name):
        return None
    for pattern, ours in PATTERNS.items():
        found = re.search(rf"(^|/){pattern}$", name)
        if found:
            groups = {key: value for key, value in found.groupdict().items() if value is not None}
            return ours.format(layer=f"bert/encoder/layer_{groups.get('number')}", **groups)
    return None


def reshape_array(name: str, array: np.ndarray) -> np.ndarray:
    """The array in our shape: the axes of heads and of head size joined."""
    if name.endswith("attention/output/dense/kernel") and array.ndim == 3:
        return array.reshape(-1, array.shape[-1])
    if "/attention/self/" in name:
        return array.reshape(array.shape[0], -1) if name.endswith("/kernel") else array.reshape(-1)
    return array


def infer_config(arrays: Mapping[str, np.ndarray], hidden_act: str) -> tuple[BertConfig, list[str]]:
    """The configuration that the shapes say, by our names, and remarks on what they do not say.

    Attention's kernels still have their axis of heads. Raises ValueError naming what an encoder must have.
    """
    query = _require_array(arrays, "bert/encoder/layer_0/attention/self/query/kernel")
    vocab_size, hidden_size = _require_array(arrays, "bert/embeddings/word_embeddings").shape
    remarks = []
    heads = query.shape[1] if query.ndim == 3 else 0
    if not heads:
        heads = max(1, hidden_size // SIZE_OF_HEAD)
        remarks.append(
            f"its shapes do not say how many heads it has; {heads} were taken, of {SIZE_OF_HEAD} numbers each"
        )
    numbers = {int(found.group(1)) for name in arrays if (found := re.match(r"bert/encoder/layer_(\d+)/", name))}
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=max(numbers) + 1,
        num_attention_heads=heads,
        intermediate_size=_require_array(arrays, "bert/encoder/layer_0/intermediate/dense/kernel").shape[1],
        hidden_act=hidden_act,
        max_position_embeddings=_require_array(arrays, "bert/embeddings/position_embeddings").shape[0],
        type_vocab_size=_require_array(arrays, "bert/embeddings/token_type_embeddings").shape[0],
    )
    return config, remarks


def _require_array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"has no {name}; only encoders with the layers of BERT are read")
    return arrays[name]


def find_activation(path: Path) -> tuple[str, str]:
    """Our name of the activation in a saved_model.pb, and how it was found.

    Raises ValueError for a file that is not a whole SavedModel.
    """
    operations, tanh_form = set(), False
    for node in _read_nodes(path):
        operations.add(node.op)
        tanh_form = tanh_form or _is_factor(node)
    if tanh_form:
        return "gelu", "its graph computes the tanh form of GELU"
    if operations & {"Erf", "Erfc"}:
        return "gelu_erf", "its graph computes the exact form of GELU"
    if "Relu" in operations:
        return "relu", "its graph computes ReLU"
    return "gelu", TAKEN


def require_whole_graph(path: Path) -> None:
    """ValueError for a file that is not a whole SavedModel."""
    for _ in _read_nodes(path):
        return


def _read_nodes(path: Path) -> Iterator[Node]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path}: not a whole SavedModel ({error}); copy or download the folder again") from error
    for graph in model.meta_graphs:
        yield from graph.graph_def.node
        for function in graph.graph_def.library.function:
            yield from function.node_def


def _is_factor(node: Node) -> bool:
    import tensorflow as tf

    if node.op != "Const" or node.attr["value"].tensor.tensor_shape.dim:
        return False
    value = tf.make_ndarray(node.attr["value"].tensor)
    return bool(value.dtype.kind == "f" and abs(float(value) - TANH_GELU) < TOLERANCE)
