"""`bertline.load_model`: a model of any format, to compute with: vectors of texts, words for [MASK], next sentences."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.files import draft_of
from bertline.model.config import BertConfig
from bertline.model.features.lines import PIECES, encode_windows
from bertline.model.features.pooling import POOLINGS, normalize_lengths, pool_tokens
from bertline.model.features.vectors import LayerVectors, number_layers
from bertline.model.formats.convert import FORMATS, ConvertConfig, write_proved
from bertline.model.formats.detect import read_model
from bertline.model.formats.loaded_model import MASKED_LM, NEXT_SENTENCE, POOLER, LoadedModel
from bertline.model.formats.tokenizer import Tokenizer, tokenizer_of
from bertline.model.training.backends.choice import keep_quiet, use_backend
from bertline.settings import require_bool, require_length, require_one_of, whole_number
from bertline.tokenizer.encoding import SHORTEST, Encoding, list_texts
from bertline.tokenizer.wordpiece import MASK

WINDOW_BYTES = 1 << 27  # of the tokens' vectors that are in memory at a time

Vectors = NDArray[np.float32]


class Prediction(NamedTuple):
    """A piece that may stand where a [MASK] is."""

    token: str
    probability: float  # of all pieces of the vocabulary they add up to 1


def load_model(
    path: str | os.PathLike[str],
    *,
    vocab_file: str | os.PathLike[str] | None = None,
    bert_config_file: str | os.PathLike[str] | None = None,
    do_lower_case: bool | None = None,
) -> "Model":
    """The model at `path`, of any format that bertline reads.

    A bertline, Hugging Face, sentence-transformers or SavedModel folder, a released zip, or a TF1 checkpoint
    (.../bert_model.ckpt). A vocabulary, a configuration or a case that is given takes the place of the model's own.
    Raises FileNotFoundError for a missing path, ValueError for files that are no model, or do not fit together.
    """
    if do_lower_case is not None:
        require_bool("do_lower_case", do_lower_case)
    keep_quiet()
    files = [None if file is None else Path(file).expanduser() for file in (vocab_file, bert_config_file)]
    loaded = read_model(
        Path(path).expanduser(), vocab_file=files[0], bert_config_file=files[1], do_lower_case=do_lower_case
    )
    use_backend("")  # not before: it takes seconds, and there may be nothing to read
    return Model(replace(loaded, checkpoint=replace(loaded.checkpoint, slots=None)))  # Adam's are not computed with


class Model:
    """A BERT with its tokenizer, as `bertline.load_model` reads it.

    It computes in float32, on Keras's backend: TensorFlow, or what the variable KERAS_BACKEND names.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """`loaded` as `read_model` gives it; ValueError for a vocabulary that is not as large as the model's."""
        self.loaded = loaded  # its path, format, heads, weights by name, and remarks of its reader
        self.tokenizer: Tokenizer = tokenizer_of(loaded, loaded.path)
        self._layers: tuple[Any, LayerVectors] | None = None
        self._tensors: dict[str, Any] | None = None

    @property
    def config(self) -> BertConfig:
        """The model's shape: hidden_size, num_hidden_layers, vocab_size and so on."""
        return self.loaded.checkpoint.bert_config

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        pooling: str | None = None,
        layers: int | Sequence[int] = -1,
        normalize: bool | None = None,
        max_seq_length: int | None = None,
        batch_size: int = 32,
    ) -> Vectors:
        """One vector for each text, float32 [N, hidden]; of a text that is given by itself, [hidden].

        `pooling` makes it of the tokens' vectors, [CLS] and [SEP] among them: their "mean", "max", or the first's
        ("cls"). These are the outputs of a layer (0 is the first, -1 the last), or the means of several. With
        `normalize` a vector has length 1. A sentence-transformers folder has its own pooling, normalization and
        longest text; others have the mean, none, and as many tokens as the model has positions. A longer text loses
        its end: where `max_seq_length` is not given, a warning says how many did. At most `batch_size` texts are
        computed together. Raises ValueError for what the model cannot do, TypeError for what is no text or number.
        """
        listed, is_one = list_texts(texts, "texts")
        state = self.loaded.checkpoint.state
        pooling = pooling or state.get("pooling", "mean")
        require_one_of("pooling", str(pooling), POOLINGS)
        whole_number("batch_size", batch_size, 1)
        longest = self._longest(max_seq_length)
        numbers = number_layers(_list_layers(layers), self.loaded)
        vectors, cut = self._pool(listed, self._compile(numbers, batch_size), len(numbers), pooling, longest)
        if cut and max_seq_length is None:
            _warn_of_cut(f"{cut} of {len(listed)} texts are", longest)
        if normalize if normalize is not None else state.get("normalize", False):
            vectors = normalize_lengths(vectors)
        return vectors[0] if is_one else vectors

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Prediction]]:
        """For each [MASK] of a text, in order, the `top_k` most probable pieces with their probabilities.

        Raises ValueError for a model without a masked-LM head, and for a text without [MASK] or with more tokens than
        the model has positions: it is not cut. TypeError for several texts.
        """
        self._require_heads("fill_mask", MASKED_LM)
        whole_number("top_k", top_k, 1)
        if not isinstance(text, str):
            raise TypeError(f"fill_mask takes one text (str), not {type(text).__name__}; call it for each")
        encoding = self.tokenizer.encode(text, split_special_tokens=False)
        positions = np.flatnonzero(encoding.input_ids == self.tokenizer.vocabulary.mask_id).astype(np.int32)
        if not len(positions):
            raise ValueError(f'the text has no {MASK}: write it where a piece is wanted, as in "the {MASK} of the sea"')
        if len(encoding) > self.config.max_position_embeddings:
            raise ValueError(
                f"the text has {len(encoding)} tokens, the model {self.config.max_position_embeddings} positions; "
                f"shorten the text around its {MASK}"
            )
        from bertline.model.heads import masked_lm_logits

        sequence = self._encode_pair(encoding).sequence
        of_rows = masked_lm_logits(self._weights(), self.config, sequence, positions[None])  # [1, masks, vocabulary]
        logits = np.asarray(of_rows)[0]
        probabilities = _softmax(logits)
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
        tokens = self.tokenizer.vocabulary.tokens
        return [
            [Prediction(tokens[piece], float(of_mask[piece])) for piece in pieces.tolist()]
            for of_mask, pieces in zip(probabilities, best)
        ]

    def next_sentence(self, first: str, second: str) -> float:
        """How probable it is that `second` followed `first` in its document, rather than being a random text.

        From 0 to 1. Too long a pair is cut as in pretraining data, with a warning. Raises ValueError for a model
        without a next-sentence head, TypeError for what is no text.
        """
        self._require_heads("next_sentence", NEXT_SENTENCE, POOLER)
        if not (isinstance(first, str) and isinstance(second, str)):
            raise TypeError("next_sentence takes two texts (str); call it for each pair")
        encoding = self.tokenizer.encode(first, second, max_seq_length=self.config.max_position_embeddings)
        if encoding.is_cut:
            _warn_of_cut("the texts are together", self.config.max_position_embeddings)
        from bertline.model.heads import next_sentence_logits

        logits = next_sentence_logits(self._weights(), self._encode_pair(encoding).pooled)
        return float(_softmax(np.asarray(logits))[0, 0])

    def save(self, path: str | os.PathLike[str], format: str = "huggingface") -> dict[str, int | float]:
        """Write the model into the new folder `path`, read it back, and compare what the two compute.

        `format` is huggingface, sentence-transformers, tf1, savedmodel, onnx or bertline. Returns counts and the
        largest difference of every output, and what the format left out. Nothing is written where a difference is
        above 1e-5. Raises FileExistsError for a folder that holds something, ValueError for an unknown format, what
        the format cannot hold, and such a difference.
        """
        require_one_of("format", str(format), FORMATS)
        folder, config = Path(path).expanduser(), ConvertConfig(to=format)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder}: already holds something; give another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(folder) as draft:
            draft.mkdir()
            return write_proved(draft, self.loaded.checkpoint, config)

    def __repr__(self) -> str:
        config, loaded = self.config, self.loaded
        parameters = sum(array.size for array in loaded.checkpoint.weights.values())
        return (
            f"<Model {loaded.path} ({loaded.format}): {config.num_hidden_layers} layers of {config.hidden_size}, "
            f"{parameters:,} parameters, {self.tokenizer!r}, heads: {', '.join(loaded.heads) or 'none'}>"
        )

    def _longest(self, max_seq_length: int | None) -> int:
        positions = self.config.max_position_embeddings
        if max_seq_length is None:
            own: int = self.loaded.checkpoint.state.get("max_seq_length", positions)
            return min(own, positions)
        whole_number("max_seq_length", max_seq_length, SHORTEST, "with its special tokens ")
        require_length(max_seq_length, positions)
        return max_seq_length

    def _compile(self, layers: list[int], batch_size: int) -> LayerVectors:
        """The last compiled function is kept: each holds the weights once more."""
        key = (layers, batch_size)
        if self._layers is None or self._layers[0] != key:
            self._layers = None
            self._layers = key, LayerVectors(self.loaded, layers, batch_size=batch_size, precision="float32")
        return self._layers[1]

    def _pool(
        self, texts: Sequence[str], compute: LayerVectors, layers: int, pooling: str, longest: int
    ) -> tuple[Vectors, int]:
        """The vectors of texts, [N, hidden], and how many texts were cut."""
        most_tokens = max(1, WINDOW_BYTES // (layers * self.config.hidden_size * 4))
        found, cut = [np.zeros((0, self.config.hidden_size), np.float32)], 0
        windows = encode_windows(
            texts, self.tokenizer.wordpiece, longest, PIECES, most_tokens, split_line=lambda text: (text, "")
        )
        for window in windows:
            vectors, _ = compute.compute(window, lambda texts: None)  # [tokens, layers, hidden]
            begins = np.cumsum(window.lengths) - window.lengths
            found.append(pool_tokens(vectors.mean(axis=1, keepdims=True), begins, pooling)[:, 0])
            cut += int(window.is_cut.sum())
        return np.concatenate(found), cut

    def _encode_pair(self, encoding: Encoding) -> Any:
        from bertline.model.bert import encode

        rows = (encoding.input_ids[None], encoding.input_mask[None], encoding.segment_ids[None])
        return encode(self._weights(), self.config, *rows)

    def _weights(self) -> dict[str, Any]:
        """The weights on the device, where they stay: to bring them there takes longer than to compute a text."""
        if self._tensors is None:
            from keras import ops

            weights = self.loaded.checkpoint.weights
            self._tensors = {name: ops.convert_to_tensor(array) for name, array in weights.items()}
        return self._tensors

    def _require_heads(self, method: str, *heads: str) -> None:
        missing = [head for head in heads if head not in self.loaded.heads]
        if missing:
            raise ValueError(
                f"{self.loaded.path}: {method} needs a {' and a '.join(missing)}, and this model has none (it has: "
                f"{', '.join(self.loaded.heads) or 'the encoder alone'}); load one that was pretrained and kept it"
            )


def _list_layers(layers: int | Sequence[int]) -> list[int]:
    given = layers if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    numbers = [whole_number("layers", each) for each in given]
    if not numbers:
        raise ValueError("layers is empty; give a layer or more")
    return numbers


def _warn_of_cut(what: str, longest: int) -> None:
    """A warning at the line that called the method."""
    warnings.warn(f"{what} longer than {longest} tokens and lost their ends", stacklevel=3)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Of the last axis, in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
