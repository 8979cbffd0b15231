"""Hugging Face's config.json <-> our configuration; what our model does not compute is refused by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.model.config import LAYER_NORM_EPSILON, RELEASED_KEYS, BertConfig
from bertline.model.formats.files import read_object
from bertline.model.formats.loaded_model import ANSWER_SPANS, CLASSIFIER, MASKED_LM, NEXT_SENTENCE
from bertline.model.training.checkpoint import Checkpoint
from bertline.settings import from_mapping

# Their names -> ours. Their "gelu" is the exact form; ours, as the original's, the one with tanh.
ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
    "gelu_python_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu_accurate": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
WRITTEN_ACTIVATIONS = {
    "gelu": "gelu_pytorch_tanh",
    "gelu_erf": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
# transformers' defaults where they are not ours: what a config.json without the key means.
DEFAULTS: dict[str, Any] = {"vocab_size": 30522, "hidden_act": "gelu"}
# The one value that our model computes with, and what another one would mean.
ONLY: dict[str, tuple[Any, str]] = {
    # Measured on all-MiniLM-L6-v2: hidden states change by 2e-3 with 1e-5, 2e-4 with 1e-6, 5e-6 (rounding) with 1e-8.
    "layer_norm_eps": (LAYER_NORM_EPSILON, "another one changes every layer, by about 0.002 where it is 1e-05"),
    "position_embedding_type": ("absolute", "relative positions are another model"),
    "is_decoder": (False, "this model reads text in both directions"),
    "add_cross_attention": (False, "this model is an encoder alone"),
    "pruned_heads": ({}, "layers with fewer heads do not fit one configuration"),
    "quantization_config": (None, "quantized weights are not read; take the model as it was before"),
}
# Keys that are read into something else, computed when written, of decoders alone, or about the writing program.
NOT_KEPT = {
    *ONLY,
    "model_type",
    "architectures",
    "id2label",
    "label2id",
    "num_labels",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "use_cache",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "transformers_version",
}
# Classes whose classifier has the sequence classifier's tensor names and another meaning.
OTHER_CLASSIFIERS = {
    "BertForTokenClassification": "scores every token, not the whole text",
    "BertForMultipleChoice": "scores one of several choices",
}


@dataclass(frozen=True)
class ReadConfig:
    """What a config.json says."""

    bert_config: BertConfig
    extras: dict[str, Any]  # further keys, kept unread
    architecture: str  # the first of its architectures; "" without one
    labels: list[str] | None  # by id; None without names
    remarks: list[str]


def read_config(path: Path) -> ReadConfig:
    """The content of a config.json; ValueError for another kind of model, or settings that our model lacks."""
    mapping = read_object(path)
    _require_bert(mapping, path)
    names = RELEASED_KEYS
    given = DEFAULTS | {name: mapping[name] for name in names if name in mapping}
    if given["hidden_act"] not in ACTIVATIONS:
        raise ValueError(f'{path}: hidden_act is "{given["hidden_act"]}"; known: {", ".join(ACTIVATIONS)}')
    given["hidden_act"] = ACTIVATIONS[given["hidden_act"]]
    try:
        bert_config = from_mapping(BertConfig, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    extras = {key: value for key, value in mapping.items() if key not in names and key not in NOT_KEPT}
    architecture = str((mapping.get("architectures") or [""])[0])
    return ReadConfig(
        bert_config, extras, architecture, _read_labels(mapping, path), _list_remarks(mapping, names, path.name)
    )


def make_config(checkpoint: Checkpoint, heads: Sequence[str], pad_id: int) -> dict[str, Any]:
    """The content of config.json for a model with these heads."""
    extras = {key: value for key, value in checkpoint.config_extras.items() if key not in NOT_KEPT}
    config = extras | checkpoint.bert_config.to_mapping()
    config |= {
        "architectures": [_name_architecture(checkpoint, heads)],
        "model_type": "bert",
        "hidden_act": WRITTEN_ACTIVATIONS[checkpoint.bert_config.hidden_act],
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "pad_token_id": pad_id,
        "tie_word_embeddings": True,
    }
    if CLASSIFIER in heads:
        labels = list_labels(checkpoint)
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    return config


def list_labels(checkpoint: Checkpoint) -> list[str]:
    """A classifier's labels, without names those of transformers: LABEL_0, LABEL_1, ...

    Raises ValueError for more or fewer labels than the classifier scores.
    """
    count = checkpoint.weights["output_weights"].shape[0]
    labels = checkpoint.state.get("labels")
    if labels is None:
        return [f"LABEL_{number}" for number in range(count)]
    if len(labels) != count:
        raise ValueError(f"the model has {len(labels)} labels ({', '.join(map(str, labels))}), its classifier {count}")
    return [str(label) for label in labels]


def _require_bert(mapping: Mapping[str, Any], path: Path) -> None:
    kind = mapping.get("model_type", "bert")
    if kind != "bert":
        raise ValueError(f'{path}: model_type is "{kind}"; only "bert" is read, other models compute otherwise')
    for key, (known, reason) in ONLY.items():
        value = mapping.get(key, known)
        if value is not None and value != known:
            raise ValueError(f"{path}: {key} is {json.dumps(value)}; only {json.dumps(known)} is read, {reason}")


def _read_labels(mapping: Mapping[str, Any], path: Path) -> list[str] | None:
    table = mapping.get("id2label")
    if not table:
        return None
    if not isinstance(table, dict) or set(table) != {str(number) for number in range(len(table))}:
        raise ValueError(f"{path}: id2label does not number its labels 0, 1, 2, ...; correct it")
    return [str(table[str(number)]) for number in range(len(table))]


def _list_remarks(mapping: Mapping[str, Any], names: Sequence[str], file: str) -> list[str]:
    remarks = []
    if "model_type" not in mapping:
        remarks.append(f"{file} names no model_type; read as Hugging Face reads a BERT's, where gelu is the exact form")
    absent = [name for name in names if name not in mapping]
    if absent:
        remarks.append(f"{file} lacks {', '.join(absent)}; the defaults of transformers were taken")
    return remarks


def _name_architecture(checkpoint: Checkpoint, heads: Sequence[str]) -> str:
    if CLASSIFIER in heads:
        return str(checkpoint.state.get("architecture", "BertForSequenceClassification"))
    if ANSWER_SPANS in heads:
        return "BertForQuestionAnswering"
    if MASKED_LM in heads:
        return "BertForPreTraining" if NEXT_SENTENCE in heads else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if NEXT_SENTENCE in heads else "BertModel"
