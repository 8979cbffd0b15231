"""The graph of a SavedModel -> the activation of its feed-forward layers; the graph is searched, not run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

TANH_GELU = 0.044715  # the factor of x**3 in the tanh form of GELU (Hendrycks and Gimpel 2016)
TOLERANCE = 1e-6
TAKEN = "its graph does not show its activation, and the tanh form of GELU was taken, as Model Garden has it"

Node = Any


def activation_of(path: Path) -> tuple[str, str]:
    """Our name of the activation in a saved_model.pb, and how it was found.

    Raises ValueError for a file that is no whole SavedModel.
    """
    operations, tanh_form = set(), False
    for node in _nodes(path):
        operations.add(node.op)
        tanh_form = tanh_form or _is_factor(node)
    if tanh_form:
        return "gelu", "its graph computes the tanh form of GELU"
    if operations & {"Erf", "Erfc"}:
        return "gelu_erf", "its graph computes the exact form of GELU"
    if "Relu" in operations:
        return "relu", "its graph computes ReLU"
    return "gelu", TAKEN


def _nodes(path: Path) -> Iterator[Node]:
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
