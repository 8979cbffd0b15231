"""Our model -> a folder with an ONNX graph, and what ONNX Runtime computes with it.

The graph is built from the weights by name and computes what `bertline.model.bert.encode` computes.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bertline.model.config import LAYER_NORM_EPSILON, MASKED_SCORE, BertConfig
from bertline.model.formats.files import write_json
from bertline.model.formats.huggingface.config import make_config
from bertline.model.formats.huggingface.tokenizer import write_tokenizer
from bertline.model.formats.loaded_model import ANSWER_SPANS, CLASSIFIER, POOLER, find_heads
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.wordpiece import parse_vocabulary

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx_data"  # the weights of a model that is too large for one file; Optimum's name for it
OPSET, IR_VERSION = 20, 9  # the oldest ones that have the Gelu operator; ONNX Runtime reads them since 1.17
LARGEST_FILE = 2**31 - 2**24  # bytes of weights in one file: protobuf's 2 GiB, less 16 MiB for the graph itself
BATCH, SEQUENCE = "batch_size", "sequence_length"  # names of the free dimensions
INPUTS = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}  # theirs: ours
OUTPUTS = {"last_hidden_state": "last_hidden_state", "pooler_output": "pooled_output", "logits": "classifier_logits"}
FLOAT = 1  # ONNX's number for float32
SPAN_OUTPUTS = ("start_logits", "end_logits")
ACTIVATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "gelu": ("Gelu", {"approximate": "tanh"}),
    "gelu_erf": ("Gelu", {"approximate": "none"}),
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "linear": ("Identity", {}),
}


def write_onnx(folder: Path, checkpoint: Checkpoint, largest_file: int = LARGEST_FILE) -> dict[str, int | float]:
    """Write model.onnx, configuration and tokenizer into an existing folder; returns counts.

    Inputs are input_ids, attention_mask and token_type_ids, int64 [batch, length]. Outputs are last_hidden_state
    [batch, length, hidden]; with a pooler pooler_output [batch, hidden]; with a classifier logits [batch, labels];
    with a head for answers start_logits and end_logits [batch, length]. All are float32, as are the weights, bit for
    bit. With more than `largest_file` bytes of weights, they lie in model.onnx_data beside the graph. The heads of
    pretraining and Adam's slots are left out, and counted. Raises ValueError where the package onnx is not installed.
    """
    onnx = _import_package("onnx", folder)
    heads = _choose_heads(find_heads(checkpoint.weights, checkpoint.bert_config, folder))
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    graph = _Graph(onnx, checkpoint.weights)
    outputs = _compute(graph, checkpoint.bert_config, heads)
    _save(onnx, folder, graph.model(outputs), largest_file)
    write_json(folder / "config.json", make_config(checkpoint, heads, vocabulary.pad_id))
    write_tokenizer(folder, checkpoint, vocabulary)
    left_out = {
        "variables_left_out": len(checkpoint.weights) - len(graph.used),
        "slots_left_out": len(checkpoint.slots or ()),
    }
    counts: dict[str, int | float] = {
        "variables": len(graph.used),
        "parameters": sum(checkpoint.weights[name].size for name in graph.used),
    }
    return counts | {what: count for what, count in left_out.items() if count}


def run_onnx(folder: Path, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes on the CPU of input_ids, input_mask and segment_ids, each [N, W].

    The outputs have our names: last_hidden_state, pooled_output, classifier_logits, answer_span_logits [N, W, 2].
    Raises FileNotFoundError without a model.onnx, ValueError where the package onnxruntime is not installed.
    """
    onnxruntime = _import_package("onnxruntime", folder)
    path = folder / MODEL_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; export the model to onnx again")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    inputs = {theirs: batch[ours].astype(np.int64) for theirs, ours in INPUTS.items()}
    computed = dict(zip(names, session.run(names, inputs), strict=True))
    found = {ours: computed[theirs] for theirs, ours in OUTPUTS.items() if theirs in computed}
    if SPAN_OUTPUTS[0] in computed:
        found["answer_span_logits"] = np.stack([computed[name] for name in SPAN_OUTPUTS], axis=-1)
    return found


def _import_package(name: str, where: Path) -> ModuleType:
    """The package; ValueError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{where}: ONNX needs the package {name}, which is not installed; pip install 'bertline[onnx]'"
        ) from error


def _choose_heads(heads: Sequence[str]) -> list[str]:
    """The heads that the graph computes; a classifier scores what the pooler gives."""
    wanted = [POOLER, ANSWER_SPANS] + ([CLASSIFIER] if POOLER in heads else [])
    return [head for head in heads if head in wanted]


class _Graph:
    """Nodes in the order of computation, and the arrays they use. Every method returns the name of its output."""

    def __init__(self, onnx: ModuleType, weights: Mapping[str, np.ndarray]) -> None:
        self.used: dict[str, None] = {}  # names of weights, in order of use
        self._onnx = onnx
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        self.used[name] = None
        return name

    def number(self, name: str, value: int | float | list[int]) -> str:
        """A constant: float32 for a float, else int64."""
        self._constants[name] = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        return name

    def dense(self, name: str, x: str) -> str:
        product = self.node("MatMul", [x, self.weight(f"{name}/kernel")], f"{name}/MatMul")
        return self.node("Add", [product, self.weight(f"{name}/bias")], f"{name}/BiasAdd")

    def layer_norm(self, name: str, x: str, output: str = "") -> str:
        inputs = [x, self.weight(f"{name}/gamma"), self.weight(f"{name}/beta")]
        return self.node("LayerNormalization", inputs, output or f"{name}/normal", axis=-1, epsilon=LAYER_NORM_EPSILON)

    def model(self, outputs: Mapping[str, list[str | int]]) -> Any:
        """The whole model, with the shape of each output."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        arrays = {name: self._weights[name].astype("<f4", copy=False) for name in self.used} | self._constants
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [helper.make_tensor_value_info(name, types.INT64, [BATCH, SEQUENCE]) for name in INPUTS],
            [helper.make_tensor_value_info(name, types.FLOAT, shape) for name, shape in outputs.items()],
            [self._onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bertline")


def _compute(graph: _Graph, config: BertConfig, heads: Sequence[str]) -> dict[str, list[str | int]]:
    """Add all nodes; returns the names and shapes of the outputs."""
    x = _embed(graph)
    score_bias = _bias_scores(graph)
    for number in range(config.num_hidden_layers):
        last = number == config.num_hidden_layers - 1
        x = _layer(graph, config, number, x, score_bias, "last_hidden_state" if last else "")
    outputs: dict[str, list[str | int]] = {x: [BATCH, SEQUENCE, config.hidden_size]}
    if POOLER in heads:
        first = graph.node("Gather", [x, graph.number("zero", 0)], "bert/pooler/first", axis=1)  # [batch, hidden]
        pooled = graph.node("Tanh", [graph.dense("bert/pooler/dense", first)], "pooler_output")
        outputs[pooled] = [BATCH, config.hidden_size]
    if CLASSIFIER in heads:
        inputs = [pooled, graph.weight("output_weights"), graph.weight("output_bias")]
        outputs[graph.node("Gemm", inputs, "logits", transB=1)] = [BATCH, "labels"]
    if ANSWER_SPANS in heads:
        for name in _score_spans(graph, x):
            outputs[name] = [BATCH, SEQUENCE]
    return outputs


def _embed(graph: _Graph) -> str:
    """[batch, length, hidden] after LayerNorm."""
    name = "bert/embeddings"
    words = graph.node("Gather", [graph.weight(f"{name}/word_embeddings"), "input_ids"], f"{name}/words")
    segments = graph.node("Gather", [graph.weight(f"{name}/token_type_embeddings"), "token_type_ids"], f"{name}/types")
    length = graph.node("Shape", ["input_ids"], f"{name}/length", start=1, end=2)
    table = graph.weight(f"{name}/position_embeddings")
    start, axis = graph.number(f"{name}/start", [0]), graph.number(f"{name}/axis", [0])
    positions = graph.node("Slice", [table, start, length, axis], f"{name}/positions")  # [length, hidden]
    tokens = graph.node("Add", [words, segments], f"{name}/tokens")
    return graph.layer_norm(f"{name}/LayerNorm", graph.node("Add", [tokens, positions], f"{name}/sum"))


def _bias_scores(graph: _Graph) -> str:
    """0 where a token may be attended to, MASKED_SCORE at padding, [batch, 1, 1, length]."""
    used = graph.node("Cast", ["attention_mask"], "mask/used", to=FLOAT)
    padding = graph.node("Sub", [graph.number("mask/one", 1.0), used], "mask/padding")
    bias = graph.node("Mul", [padding, graph.number("mask/masked_score", MASKED_SCORE)], "mask/bias")
    return graph.node("Unsqueeze", [bias, graph.number("mask/axes", [1, 2])], "mask/score_bias")


def _layer(graph: _Graph, config: BertConfig, number: int, x: str, score_bias: str, output: str) -> str:
    """One post-LN Transformer layer on [batch, length, hidden]."""
    name = f"bert/encoder/layer_{number}"
    context = _attention(graph, config, f"{name}/attention/self", x, score_bias)
    attended = _residual(graph, f"{name}/attention/output", context, x)
    operator, attributes = ACTIVATIONS[config.hidden_act]
    wide = graph.dense(f"{name}/intermediate/dense", attended)
    intermediate = graph.node(operator, [wide], f"{name}/intermediate/activation", **attributes)
    return _residual(graph, f"{name}/output", intermediate, attended, output)


def _attention(graph: _Graph, config: BertConfig, name: str, x: str, score_bias: str) -> str:
    """Scaled dot-product attention of all heads, [batch, length, hidden]."""
    size = config.hidden_size // config.num_attention_heads
    split = graph.number("attention/split", [0, 0, config.num_attention_heads, size])  # 0: as in the input
    orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    of_heads = {}
    for part, order in orders.items():
        rows = graph.node("Reshape", [graph.dense(f"{name}/{part}", x), split], f"{name}/{part}/split")
        of_heads[part] = graph.node("Transpose", [rows], f"{name}/{part}/heads", perm=order)
    products = graph.node("MatMul", [of_heads["query"], of_heads["key"]], f"{name}/products")
    scale = graph.number("attention/scale", 1.0 / math.sqrt(size))
    scores = graph.node("Mul", [products, scale], f"{name}/scores")
    biased = graph.node("Add", [scores, score_bias], f"{name}/biased")
    shares = graph.node("Softmax", [biased], f"{name}/shares", axis=-1)  # [batch, heads, from, to]
    context = graph.node("MatMul", [shares, of_heads["value"]], f"{name}/context")
    rows = graph.node("Transpose", [context], f"{name}/rows", perm=[0, 2, 1, 3])
    joined = graph.number("attention/join", [0, 0, config.hidden_size])
    return graph.node("Reshape", [rows, joined], f"{name}/joined")


def _residual(graph: _Graph, name: str, x: str, residual: str, output: str = "") -> str:
    total = graph.node("Add", [graph.dense(f"{name}/dense", x), residual], f"{name}/sum")
    return graph.layer_norm(f"{name}/LayerNorm", total, output)


def _score_spans(graph: _Graph, x: str) -> list[str]:
    """Scores of each token being the first, or the last, of the answer."""
    name = "cls/squad"
    kernel = graph.node("Transpose", [graph.weight(f"{name}/output_weights")], f"{name}/kernel", perm=[1, 0])
    product = graph.node("MatMul", [x, kernel], f"{name}/MatMul")
    logits = graph.node("Add", [product, graph.weight(f"{name}/output_bias")], f"{name}/BiasAdd")  # [batch, length, 2]
    ends = enumerate(SPAN_OUTPUTS)
    return [graph.node("Gather", [logits, graph.number(f"{name}/{end}", end)], out, axis=2) for end, out in ends]


def _save(onnx: ModuleType, folder: Path, model: Any, largest_file: int) -> None:
    """Write the model, with the same bytes for the same model."""
    path = folder / MODEL_FILE
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= largest_file:
        path.write_bytes(model.SerializeToString(deterministic=True))
    else:  # small tensors stay in the graph: ONNX Runtime wants to see those that give shapes
        onnx.save_model(model, str(path), save_as_external_data=True, location=DATA_FILE, size_threshold=1024)
