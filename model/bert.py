"""The BERT encoder as pure functions of its named weights (Devlin et al. 2018, section 3).

A model is a mapping from variable name to array; the names are those of google-research/bert's
checkpoints, so that what is trained, stored and exported is spelt in one way everywhere. Only Keras 3
operations are used: NumPy arrays, TensorFlow variables and JAX arrays all serve as weights. Dropout is a function of
(seed, step, place, example), so that resuming needs no state.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from bertline.model.config import FINAL_LAYER_NORM, LAYER_NORM_EPSILON, MASKED_SCORE, BertConfig, Shapes

Tensor = Any
Weights = Mapping[str, Tensor]

HEAD_PLACE, EMBEDDINGS_PLACE, PLACES_A_LAYER = 0, 1, 3  # numbers of dropout's calls
GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: the bits of consecutive numbers become unlike
PLACES_A_STEP = 1024  # of dropout: room for those of one network, three a layer and a few
BYTES_A_WORD = 4
ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x, approximate=True),  # tanh form, the original's since 2019-02-07
    "gelu_erf": lambda x: ops.gelu(x, approximate=False),
    "relu": ops.relu,
    "tanh": ops.tanh,
    "linear": lambda x: x,
}


@dataclass(frozen=True)
class Encoded:
    """What the encoder computes for a batch."""

    embeddings: Tensor  # [batch, length, hidden], after LayerNorm
    layers: tuple[Tensor, ...]  # each [batch, length, hidden], first layer first
    pooled: Tensor  # [batch, hidden], tanh of a dense layer on [CLS]; None without a pooler

    @property
    def sequence(self) -> Tensor:
        """The last layer's output, [batch, length, hidden]."""
        return self.layers[-1]


def encode(
    weights: Weights,
    config: BertConfig,
    input_ids: Tensor,
    input_mask: Tensor,
    segment_ids: Tensor,
    dropout: Dropout | None = None,
    recompute: int = 0,
) -> Encoded:
    """Run the encoder on int32 [batch, length] inputs; with `dropout` as in training.

    With `recompute` above 0, the gradient computes so many layers at a time again instead of keeping what they
    computed; `layers` then holds the last of each such group alone.
    """
    batch, length = ops.shape(input_ids)
    score_bias = _score_bias(input_mask, weights["bert/embeddings/word_embeddings"].dtype)
    # Tokens are kept as rows of a matrix: one large multiplication is faster than a batch of small ones.
    x = _embed(weights, config, input_ids, segment_ids, dropout)  # [batch * length, hidden]
    outputs = [x]
    for first in range(0, config.num_hidden_layers, recompute or 1):
        group = range(first, min(first + (recompute or 1), config.num_hidden_layers))
        run_group = _recompute_layers if recompute else _run_layers
        x = run_group(weights, config, group, x, score_bias, dropout)
        outputs.append(x)
    if config.pre_layer_norm:
        outputs[-1] = layer_norm(weights, FINAL_LAYER_NORM, x)
    embeddings, *layers = (ops.reshape(output, (batch, length, config.hidden_size)) for output in outputs)
    has_pooler = "bert/pooler/dense/kernel" in weights  # encoders of other libraries may lack it
    pooled = ops.tanh(dense(weights, "bert/pooler/dense", layers[-1][:, 0])) if has_pooler else None
    return Encoded(embeddings, tuple(layers), pooled)


def initial_weights(shapes: Shapes, initializer_range: float, seed: int) -> dict[str, np.ndarray]:
    """Fresh float32 weights: normal with standard deviation `initializer_range`, cut at two of them.

    Biases and beta are 0, gamma is 1. Every variable has a generator of its own, made from the seed and
    its name, so that the encoder starts equal whatever heads it has.
    """
    return {name: _initial(name, shape, initializer_range, seed) for name, shape in shapes.items()}


def in_precision(weights: Weights, precision: str) -> dict[str, Tensor]:
    """Copies to compute with: for mixed_bfloat16 the matrices rounded, the rest in float32.

    LayerNorm parameters and the output layers' own variables stay float32: rounding a gamma near 1 to
    bfloat16's 8 bits would undo most of its updates, and losses are computed in float32.
    """
    if precision == "float32":
        return dict(weights)
    lower = precision.removeprefix("mixed_")
    return {name: ops.cast(value, lower) if _may_round(name) else value for name, value in weights.items()}


def dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    """The product with the kernel, plus the bias, in the precision of `x`."""
    return ops.matmul(x, ops.cast(weights[f"{name}/kernel"], x.dtype)) + ops.cast(weights[f"{name}/bias"], x.dtype)


def layer_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Normalise the last axis in float32; the result has the precision of `x`."""
    wide = ops.cast(x, "float32")
    centred = wide - ops.mean(wide, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    normal = centred * ops.rsqrt(variance + LAYER_NORM_EPSILON)
    return ops.cast(normal * weights[f"{name}/gamma"] + weights[f"{name}/beta"], x.dtype)


def _embed(
    weights: Weights, config: BertConfig, input_ids: Tensor, segment_ids: Tensor, dropout: Dropout | None
) -> Tensor:
    batch, length = ops.shape(input_ids)
    words = ops.take(weights["bert/embeddings/word_embeddings"], input_ids, axis=0)  # [batch, length, hidden]
    # For a table of two rows a product is faster than a lookup, and so is its gradient.
    segments = ops.matmul(
        ops.one_hot(segment_ids, config.type_vocab_size, dtype=words.dtype),
        weights["bert/embeddings/token_type_embeddings"],
    )
    positions = weights["bert/embeddings/position_embeddings"][:length]  # [length, hidden]
    summed = ops.reshape(words + segments + positions, (batch * length, config.hidden_size))
    normal = layer_norm(weights, "bert/embeddings/LayerNorm", summed)
    return _drop(dropout, normal, config.hidden_dropout_prob, EMBEDDINGS_PLACE)


def _run_layers(
    weights: Weights, config: BertConfig, group: range, x: Tensor, score_bias: Tensor, dropout: Dropout | None
) -> Tensor:
    for number in group:
        x = _layer(weights, config, number, x, score_bias, dropout)
    return x


def _recompute_layers(
    weights: Weights, config: BertConfig, group: range, x: Tensor, score_bias: Tensor, dropout: Dropout | None
) -> Tensor:
    """`_run_layers` whose gradient keeps nothing but x; all that has a gradient is an argument of the function."""
    prefixes = tuple(f"bert/encoder/layer_{number}/" for number in group)
    names = [name for name in weights if name.startswith(prefixes)]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return _run_layers(dict(zip(names, values, strict=True)), config, group, x, score_bias, dropout)

    return keras.remat(run)(x, *(weights[name] for name in names))


def _layer(
    weights: Weights, config: BertConfig, number: int, x: Tensor, score_bias: Tensor, dropout: Dropout | None
) -> Tensor:
    """One Transformer layer on [batch * length, hidden]: normalised after each residual, or before each sublayer."""
    name, place = f"bert/encoder/layer_{number}", EMBEDDINGS_PLACE + 1 + PLACES_A_LAYER * number

    def read(sublayer: str, x: Tensor) -> Tensor:
        return layer_norm(weights, f"{name}/{sublayer}/LayerNorm", x) if config.pre_layer_norm else x

    attention, output = "attention/output", "output"
    context = _attention(weights, config, f"{name}/attention/self", read(attention, x), score_bias, dropout, place)
    attended = _residual(weights, config, f"{name}/{attention}", context, x, dropout, place + 1)
    activation = ACTIVATIONS[config.hidden_act]
    intermediate = activation(dense(weights, f"{name}/intermediate/dense", read(output, attended)))
    return _residual(weights, config, f"{name}/{output}", intermediate, attended, dropout, place + 2)


def _attention(
    weights: Weights,
    config: BertConfig,
    name: str,
    x: Tensor,
    score_bias: Tensor,
    dropout: Dropout | None,
    place: int,
) -> Tensor:
    """Scaled dot-product attention of all heads, [batch * length, hidden]."""
    batch, _, _, length = ops.shape(score_bias)
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    query, key, value = (
        ops.transpose(ops.reshape(dense(weights, f"{name}/{each}", x), (batch, length, heads, size)), (0, 2, 1, 3))
        for each in ("query", "key", "value")
    )  # each [batch, heads, length, size]
    probability = 0.0 if dropout is None else config.attention_probs_dropout_prob
    if probability == 0.0 and keras.backend.backend() == "jax":
        # One kernel, flash attention where the device has it; it knows no dropout.
        query, key, value = (ops.transpose(each, (0, 2, 1, 3)) for each in (query, key, value))
        context = ops.dot_product_attention(query, key, value, bias=score_bias)
        return ops.reshape(context, (batch * length, config.hidden_size))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (1.0 / math.sqrt(size))
    shares = ops.softmax(scores + score_bias, axis=-1)  # [batch, heads, from, to]
    shares = _drop(dropout, shares, config.attention_probs_dropout_prob, place)
    context = ops.transpose(ops.matmul(shares, value), (0, 2, 1, 3))
    return ops.reshape(context, (batch * length, config.hidden_size))


def _residual(
    weights: Weights,
    config: BertConfig,
    name: str,
    x: Tensor,
    residual: Tensor,
    dropout: Dropout | None,
    place: int,
) -> Tensor:
    projected = _drop(dropout, dense(weights, f"{name}/dense", x), config.hidden_dropout_prob, place)
    summed = projected + residual
    return summed if config.pre_layer_norm else layer_norm(weights, f"{name}/LayerNorm", summed)


def _score_bias(input_mask: Tensor, dtype: Any) -> Tensor:
    """0 where a token may be attended to, MASKED_SCORE at padding, [batch, 1, 1, length]."""
    return (1.0 - ops.cast(input_mask, dtype))[:, None, None, :] * MASKED_SCORE


def _drop(dropout: Dropout | None, x: Tensor, rate: float, place: int) -> Tensor:
    return x if dropout is None else dropout(x, rate, place)


class Dropout:
    """The dropout of one step on some examples of its batch; call as dropout(x, rate, place).

    An example gets the same masks however a batch is cut into micro-batches or spread over devices, on every backend.

    Random bytes are a hash of the element's number: integer operations that XLA can fuse into the layer. A byte
    decides, so rates are multiples of 1/256: 0.1 is 26/256.
    """

    def __init__(self, seed: int, step: Tensor, examples: Tensor) -> None:
        """`step` is an integer tensor, so that one compiled function serves all steps; `examples` int32 [batch],
        the examples' numbers in the step's batch.
        """
        self._seed = seed
        self._step = ops.cast(step, "uint32") * _uint32(PLACES_A_STEP)
        self._examples = ops.cast(examples, "uint32")

    def __call__(self, x: Tensor, rate: float, place: int) -> Tensor:
        """Zero a share `rate` of the elements of x and scale up the others.

        The shape of x is static, its first axis a multiple of the batch; `place` is the number of the call in the
        network.
        """
        threshold = round(rate * 256)
        if threshold == 0:
            return x
        key = _mix(ops.bitwise_xor(_mix(_uint32(self._seed)), self._step + _uint32(place)))
        keep = ops.greater_equal(self._bytes(x.shape, key), ops.convert_to_tensor(np.uint8(threshold)))
        return ops.where(keep, x * ops.cast(256.0 / (256.0 - threshold), x.dtype), ops.zeros_like(x))

    def _bytes(self, shape: tuple[int, ...], key: Tensor) -> Tensor:
        """Uniform random bytes of that shape."""
        batch = self._examples.shape[0]
        each = math.prod(shape) // batch  # elements of an example
        words = -(-each // BYTES_A_WORD)
        numbers = self._examples[:, None] * _uint32(words) + ops.cast(ops.arange(words, dtype="int32"), "uint32")
        mixed = _mix(ops.bitwise_xor(numbers * _uint32(GOLDEN), key))  # [batch, words]
        return ops.reshape(ops.reshape(ops.view(mixed, "uint8"), (batch, -1))[:, :each], shape)


def _mix(word: Tensor) -> Tensor:
    """A bijection of uint32 in which every input bit changes half of the output bits ("lowbias32", C. Wellons)."""
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(16))) * _uint32(0x7FEB352D)
    word = ops.bitwise_xor(word, ops.right_shift(word, _uint32(15))) * _uint32(0x846CA68B)
    return ops.bitwise_xor(word, ops.right_shift(word, _uint32(16)))


def _uint32(value: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(value))


def _may_round(name: str) -> bool:
    in_matrices = name.startswith(("bert/", "cls/predictions/transform/"))
    return in_matrices and "LayerNorm" not in name


def _initial(name: str, shape: tuple[int, ...], initializer_range: float, seed: int) -> np.ndarray:
    if name.endswith(("bias", "beta")):
        return np.zeros(shape, np.float32)
    if name.endswith("gamma"):
        return np.ones(shape, np.float32)
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    values = generator.standard_normal(shape, np.float32)
    while (beyond := np.abs(values) > 2.0).any():
        values[beyond] = generator.standard_normal(int(beyond.sum()), np.float32)
    return values * np.float32(initializer_range)
