"""Encoded lines -> the vectors that some of a model's layers give their tokens, with little padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.config import encoder_shapes
from bertline.model.features.lines import Window
from bertline.model.formats.loaded_model import LoadedModel
from bertline.model.training.checkpoint import select

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights

SMALL_BATCH = 512  # positions; smaller ones compute slower than padding costs
MOST_PADDING = 0.05  # of the tokens of larger ones
WIDTH_STEP = 16  # where every shape of a batch is compiled by itself, widths are multiples of this

Rows = dict[str, NDArray[np.int32]]
Vectors = NDArray[np.float32]


class LayerVectors:
    """The wanted layers of a model, compiled; no layer above the highest of them is computed."""

    def __init__(self, loaded: LoadedModel, layers: list[int], *, batch_size: int, precision: str) -> None:
        """`layers` are counted from 0. Raises ValueError for a model without the weights that these need."""
        from keras import ops

        from bertline.model.bert import encode, in_precision

        shape = replace(loaded.checkpoint.bert_config, num_hidden_layers=max(layers) + 1)
        needed = {name: size for name, size in encoder_shapes(shape).items() if not name.startswith("bert/pooler/")}
        weights = in_precision(select(loaded.checkpoint.weights, needed, loaded.path), precision)

        def stacked(weights: "Weights", batch: Mapping[str, "Tensor"]) -> "Tensor":
            encoded = encode(weights, shape, batch["input_ids"], batch["input_mask"], batch["segment_ids"])
            return ops.cast(ops.stack([encoded.layers[layer] for layer in layers], axis=2), "float32")

        self._batch_size, self._longest = batch_size, shape.max_position_embeddings
        self._forward, self._takes_any_shape = _compile(stacked, weights)

    def compute(self, window: Window, advance: Callable[[int], None]) -> tuple[Vectors, int]:
        """The vectors of all tokens in the order of the lines, [tokens, layers, hidden]; positions computed.

        Lines of about equal length are computed together; `advance` is told how many after each batch.
        """
        begins = np.cumsum(window.lengths) - window.lengths
        vectors: Any = None
        positions = 0
        for lines in cut_batches(window.lengths, self._batch_size):
            rows = {name: of_window[lines, : window.lengths[lines[0]]] for name, of_window in window.rows.items()}
            batch = rows if self._takes_any_shape else _fill_up(rows, self._batch_size, self._longest)
            computed = np.asarray(self._forward(batch))  # [batch, width, layers, hidden]
            if vectors is None:
                vectors = np.empty((int(window.lengths.sum()), *computed.shape[2:]), np.float32)
            for line, row in zip(lines.tolist(), computed):
                vectors[begins[line] : begins[line] + window.lengths[line]] = row[: window.lengths[line]]
            positions += batch["input_ids"].size
            advance(len(lines))
        return vectors, positions


def number_layers(layers: Sequence[int], loaded: LoadedModel) -> list[int]:
    """The layers counted from 0, in the order asked for; -1 is the last. ValueError for one that the model lacks."""
    count = loaded.checkpoint.bert_config.num_hidden_layers
    for layer in layers:
        if not -count <= layer < count:
            raise ValueError(
                f"layers names {layer}, but {loaded.path} has {count} layers; give 0 to {count - 1}, or -1 (the last) "
                f"to -{count}"
            )
    return [layer % count for layer in layers]


def cut_batches(lengths: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of all lines in batches, the longest lines first.

    A batch ends before `batch_size` lines where the next line would make too much of it padding.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    first = tokens = 0
    for place, length in enumerate(lengths[longest_first].tolist()):
        count, width = place - first, int(lengths[longest_first[first]])
        padding = (count + 1) * width - tokens - length
        if count == batch_size or (count * width >= SMALL_BATCH and padding > MOST_PADDING * (tokens + length)):
            yield longest_first[first:place]
            first, tokens = place, 0
        tokens += length
    yield longest_first[first:]


def _compile(
    function: Callable[["Weights", Mapping[str, "Tensor"]], "Tensor"], weights: "Weights"
) -> tuple[Callable[[Rows], Any], bool]:
    """The function of a batch's rows, and whether it is compiled once for all shapes."""
    from bertline.model.training.backends.choice import compile_forward, in_use

    if in_use() != "tensorflow":
        return compile_forward(function, weights, jit_compile=True), False
    import tensorflow as tf

    from bertline.model.training.backends.tensorflow import variables_of

    variables = variables_of(weights)
    names = ("input_ids", "input_mask", "segment_ids")
    # A graph for each width would take longer to trace than small models take to compute.
    signature = [{name: tf.TensorSpec([None, None], tf.int32) for name in names}]
    # As a partial, not a lambda: TensorFlow counts those of all models as one, and warns of its many graphs.
    graph = tf.function(partial(function, variables), input_signature=signature, autograph=False)
    return lambda batch: graph(batch).numpy(), True


def _fill_up(rows: Rows, batch_size: int, longest: int) -> Rows:
    """The rows with more padding, to a multiple of WIDTH_STEP, and with empty rows, to the whole batch."""
    lines, width = rows["input_ids"].shape
    missing = [(0, batch_size - lines), (0, min(-width % WIDTH_STEP, longest - width))]
    return {name: np.pad(of_batch, missing) for name, of_batch in rows.items()}
