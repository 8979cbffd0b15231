"""Objects -> a SavedModel whose files are the same whenever the objects are the same.

TensorFlow numbers functions and tensors through the life of a process, puts functions into the order of a hash
table, and adds a file with a random number.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

GRAPH_FILE = "saved_model.pb"
FINGERPRINT_FILE = "fingerprint.pb"  # random, and nothing needs it
UNUSED = "___redundant_placeholder"  # follows a function's name in the names of arguments
ARGUMENT_NAME = "_user_specified_name"  # of what a function takes; a running number for an unnamed one


def save_repeatably(root: Any, folder: Path, signatures: Mapping[str, Any]) -> None:
    """Write the trackable object `root` with its functions as a SavedModel, with the same bytes every time.

    Another version of TensorFlow may write other bytes.
    """
    import tensorflow as tf

    tf.saved_model.save(root, str(folder), signatures=dict(signatures))
    (folder / FINGERPRINT_FILE).unlink(missing_ok=True)
    (folder / GRAPH_FILE).write_bytes(_renumber((folder / GRAPH_FILE).read_bytes()))


def _renumber(content: bytes) -> bytes:
    """The same SavedModel, its functions numbered 0, 1, 2, ... in the order in which they were made."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(content)
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        functions.sort(key=lambda function: int(function.signature.name.rpartition("_")[2]))  # __inference_call_2307
        old = [function.signature.name for function in functions]
        new = {name: f"{name.rpartition('_')[0]}_{number}" for number, name in enumerate(old)}
        for function in functions:
            function.signature.name = new[function.signature.name]
            _forget_numbers(function)
        for node in chain(graph.graph_def.node, *(function.node_def for function in functions)):
            for value in node.attr.values():
                for called in (value.func, *value.list.func):
                    if called.name in new:
                        called.name = new[called.name]
        _rename_objects(graph.object_graph_def, new)
    return bytes(model.SerializeToString(deterministic=True))


def _forget_numbers(function: Any) -> None:
    """Numbers in the names of arguments: of unnamed ones, and of those that a loop does not use."""
    for place, attributes in function.arg_attr.items():
        if attributes.attr[ARGUMENT_NAME].s.isdigit():
            attributes.attr[ARGUMENT_NAME].s = f"captured_{place}".encode()
    for argument in function.signature.input_arg:
        argument.name = re.sub(rf"_\d+{UNUSED}", UNUSED, argument.name)


def _rename_objects(objects: Any, new: Mapping[str, str]) -> None:
    for node in objects.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [new[name] for name in node.function.concrete_functions]
        if node.HasField("bare_concrete_function"):
            node.bare_concrete_function.concrete_function_name = new[node.bare_concrete_function.concrete_function_name]
    functions = {new[name]: deepcopy(function) for name, function in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, function in functions.items():
        objects.concrete_functions[name].CopyFrom(function)
