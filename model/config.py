"""The model's hyperparameters, the table of released sizes, and the variables of a model with their shapes."""

import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.settings import from_mapping, list_known

Shapes = dict[str, tuple[int, ...]]

ACTIVATION_NAMES = ("gelu", "gelu_erf", "relu", "tanh", "linear")
LAYER_NORM_EPSILON = 1e-12  # as the released checkpoints expect
MASKED_SCORE = -10000.0  # added to the scores of padding; the original's value
MAX_DROPOUT = 0.99  # a byte decides about an element (model/bert.py), so there is a last rate below 1
FINAL_LAYER_NORM = "bert/encoder/LayerNorm"  # of layers that normalise what they read
MISSPELT = 0.85  # similarity of two names from which one is taken for the other


@dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT model; field names are those of google-research/bert's bert_config.json."""

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    # gelu is the tanh approximation, as google-research/bert since 2019-02-07; gelu_erf what Hugging Face calls gelu.
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2  # the released files say 2; the original's code defaults to 16
    initializer_range: float = 0.02
    # Layers normalise what they read instead of what they leave (Xiong et al. 2020); no released model does.
    pre_layer_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse shapes that no model can have."""
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}; choose a head count that divides it"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) <= MAX_DROPOUT:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and at most {MAX_DROPOUT}")
        if self.hidden_act not in ACTIVATION_NAMES:
            raise ValueError(f'hidden_act is "{self.hidden_act}"; known: {", ".join(ACTIVATION_NAMES)}')

    def to_mapping(self) -> dict[str, Any]:
        """The keys of google-research/bert's bert_config.json, and pre_layer_norm, which it has not, if true."""
        mapping = dataclasses.asdict(self)
        if not self.pre_layer_norm:
            del mapping["pre_layer_norm"]
        return mapping


RELEASED_KEYS = tuple(field.name for field in dataclasses.fields(BertConfig) if field.name != "pre_layer_norm")


def _small(layers: int, hidden: int) -> dict[str, int]:
    """Turc et al. 2019: heads are hidden / 64, the feed-forward layer is 4 x hidden."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
    }


# The 24 small models by layers/hidden, the five that have names, Base (= 12/768) and Large.
GIVEN = "the given bert_config.json"  # what messages call one that is a text
SIZES: dict[str, dict[str, Any]] = {
    **{f"{n}/{h}": _small(n, h) for n in (2, 4, 6, 8, 10, 12) for h in (128, 256, 512, 768)},
    "tiny": _small(2, 128),
    "mini": _small(4, 256),
    "small": _small(4, 512),
    "medium": _small(8, 512),
    "base": _small(12, 768),
    "large": _small(24, 1024),
}


def bert_config(model: str, vocab_size: int) -> BertConfig:
    """The configuration that `model` names: a size of the table, or a bert_config.json, by its path or its text.

    Raises ValueError when a file's vocab_size is not `vocab_size`: ids beyond the embedding table
    made the original's loss NaN (google-research/bert #82).
    """
    if model in SIZES:
        return BertConfig(vocab_size=vocab_size, **SIZES[model])
    path = Path(model)
    if not is_config_text(model) and not path.is_file():
        if path.suffix == ".json":
            raise FileNotFoundError(f"{path}: no such file; model is the path of a bert_config.json, or a size")
        raise ValueError(
            f'model "{model}" is neither a known size nor a file{list_known(model, sorted(SIZES))}; or give the path '
            "of a bert_config.json"
        )
    named = GIVEN if is_config_text(model) else path
    config = _parse_config(model, GIVEN)[0] if is_config_text(model) else read_bert_config(path)
    if config.vocab_size != vocab_size:
        raise ValueError(
            f"{named}: vocab_size is {config.vocab_size}, but the vocabulary has {vocab_size} entries; "
            "take the vocabulary that belongs to this configuration, or correct vocab_size"
        )
    return config


def is_config_text(model: str) -> bool:
    """Whether a model is given as what a bert_config.json holds."""
    return model.startswith("{")


def read_bert_config(path: Path) -> BertConfig:
    """The configuration in a bert_config.json, without the keys that no code reads."""
    return read_config_and_extras(path)[0]


def read_config_and_extras(path: Path) -> tuple[BertConfig, dict[str, Any]]:
    """A bert_config.json, and its further keys, which the original accepts and never reads (pooler_type, ...).

    Raises FileNotFoundError for a missing file, ValueError for another kind of one, and for a misspelt key, whose value
    would be lost.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of a bert_config.json")
    try:
        return _parse_config(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a JSON file ({error}); expected a bert_config.json") from error


def _parse_config(text: str, path: Path | str) -> tuple[BertConfig, dict[str, Any]]:
    """As `read_config_and_extras`; messages call it by `path`."""
    try:
        mapping = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file ({error}); expected a bert_config.json") from error
    if not isinstance(mapping, dict):
        raise ValueError(f"{path}: expected a JSON object with the keys of bert_config.json")
    names = [field.name for field in dataclasses.fields(BertConfig)]
    extras = {key: value for key, value in mapping.items() if key not in names}
    absent = [name for name in names if name not in mapping]
    for key in extras:
        meant = difflib.get_close_matches(key, absent, n=1, cutoff=MISSPELT)
        if meant:
            raise ValueError(f'{path}: unknown key "{key}"; is "{meant[0]}" meant?')
    if "vocab_size" in absent:
        raise ValueError(f"{path}: lacks vocab_size; expected a bert_config.json")
    try:
        return from_mapping(BertConfig, {key: mapping[key] for key in names if key in mapping}), extras
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parameter_count(config: BertConfig, *, heads: bool = True) -> int:
    """Trainable parameters of the encoder and pooler, with `heads` those of both pretraining heads too."""
    shapes = pretraining_shapes(config) if heads else encoder_shapes(config)
    return sum(map(math.prod, shapes.values()))


def pretraining_shapes(config: BertConfig) -> Shapes:
    """Encoder and both pretraining heads; the masked-word output layer has the word embeddings as its kernel."""
    return (
        encoder_shapes(config)
        | dense_shapes("cls/predictions/transform/dense", config.hidden_size, config.hidden_size)
        | layer_norm_shapes("cls/predictions/transform/LayerNorm", config.hidden_size)
        | {
            "cls/predictions/output_bias": (config.vocab_size,),
            "cls/seq_relationship/output_weights": (2, config.hidden_size),
            "cls/seq_relationship/output_bias": (2,),
        }
    )


def classifier_shapes(config: BertConfig, num_labels: int) -> Shapes:
    """Encoder and a classification head; output_weights is [labels, hidden] as in the original."""
    head: Shapes = {"output_weights": (num_labels, config.hidden_size), "output_bias": (num_labels,)}
    return encoder_shapes(config) | head


def span_shapes(config: BertConfig) -> Shapes:
    """Encoder and the head for answers: scores of each token being the first, or the last, of the span."""
    return encoder_shapes(config) | {
        "cls/squad/output_weights": (2, config.hidden_size),
        "cls/squad/output_bias": (2,),
    }


def encoder_shapes(config: BertConfig) -> Shapes:
    """Name and shape of every variable of the encoder and pooler."""
    hidden, feed_forward = config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        "bert/embeddings/word_embeddings": (config.vocab_size, hidden),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, hidden),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, hidden),
        **layer_norm_shapes("bert/embeddings/LayerNorm", hidden),
    }
    for number in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{number}"
        for projection in ("query", "key", "value"):
            shapes |= dense_shapes(f"{layer}/attention/self/{projection}", hidden, hidden)
        shapes |= dense_shapes(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= layer_norm_shapes(f"{layer}/attention/output/LayerNorm", hidden)
        shapes |= dense_shapes(f"{layer}/intermediate/dense", hidden, feed_forward)
        shapes |= dense_shapes(f"{layer}/output/dense", feed_forward, hidden)
        shapes |= layer_norm_shapes(f"{layer}/output/LayerNorm", hidden)
    if config.pre_layer_norm:
        shapes |= layer_norm_shapes(FINAL_LAYER_NORM, hidden)
    return shapes | dense_shapes("bert/pooler/dense", hidden, hidden)


def dense_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    """The two variables of a dense layer; kernels are [inputs, outputs]."""
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def layer_norm_shapes(name: str, size: int) -> Shapes:
    """The two variables of a layer normalisation."""
    return {f"{name}/beta": (size,), f"{name}/gamma": (size,)}
