"""Objects -> a SavedModel whose files are the same whenever the objects are the same.

TensorFlow numbers functions and tensors through the life of a process, puts functions into the order of a hash
table, and adds a file with a random number.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

GRAPH_FILE = "saved_model.pb"
FINGERPRINT_FILE = "fingerprint.pb"  # random, and nothing needs it
UNUSED = "___redundant_placeholder"  # follows a function's name in the names of arguments
ARGUMENT_NAME = "_user_specified_name"  # of what a function takes; a running number where nobody gave a name

Message = Any  # a protocol buffer


def save(root: Any, folder: Path, signatures: Mapping[str, Any]) -> None:
    """Write the trackable object `root` with its functions as a SavedModel, with the same bytes every time.

    Another version of TensorFlow may write other bytes.
    """
    import tensorflow as tf

    tf.saved_model.save(root, str(folder), signatures=dict(signatures))
    (folder / FINGERPRINT_FILE).unlink(missing_ok=True)
    (folder / GRAPH_FILE).write_bytes(_numbered_afresh((folder / GRAPH_FILE).read_bytes()))


def _numbered_afresh(content: bytes) -> bytes:
    """The same SavedModel, its functions numbered 0, 1, 2, ... in the order in which they were made."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(content)
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        names = sorted((function.signature.name for function in functions), key=_number)
        new = {name: f"{name.rpartition('_')[0]}_{number}" for number, name in enumerate(names)}
        for function in functions:
            function.signature.name = new[function.signature.name]
            _rename_calls(function.node_def, new)
            _forget_numbers(function)
        _rename_calls(graph.graph_def.node, new)
        _sort(functions)
        _rename_objects(graph.object_graph_def, new)
    return bytes(model.SerializeToString(deterministic=True))


def _number(function_name: str) -> int:
    """The number of __inference_call_2307."""
    return int(function_name.rpartition("_")[2])


def _sort(functions: Any) -> None:
    in_order = [bytes(each.SerializeToString()) for each in sorted(functions, key=lambda f: _number(f.signature.name))]
    del functions[:]
    for content in in_order:
        functions.add().ParseFromString(content)


def _rename_calls(nodes: Iterable[Message], new: Mapping[str, str]) -> None:
    for called in _called_functions(nodes):
        called.name = new.get(called.name, called.name)


def _called_functions(nodes: Iterable[Message]) -> Iterator[Message]:
    for node in nodes:
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func
            yield from value.list.func


def _forget_numbers(function: Message) -> None:
    """Numbers in the names of arguments: of those that nobody named, and of those that a loop does not use."""
    for place, attributes in function.arg_attr.items():
        if attributes.attr[ARGUMENT_NAME].s.isdigit():
            attributes.attr[ARGUMENT_NAME].s = f"captured_{place}".encode()
    for argument in function.signature.input_arg:
        argument.name = re.sub(rf"_\d+{UNUSED}", UNUSED, argument.name)


def _rename_objects(objects: Message, new: Mapping[str, str]) -> None:
    for node in objects.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [new[name] for name in node.function.concrete_functions]
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = new[bare.concrete_function_name]
    described = {new[name]: bytes(each.SerializeToString()) for name, each in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, content in described.items():
        objects.concrete_functions[name].ParseFromString(content)
