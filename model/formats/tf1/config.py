"""The bert_config.json beside a TF1 checkpoint <-> our configuration, labels included.

The original ignores keys that it does not know. What its own keys cannot express is written as such a key, so that it
comes back: the exact form of gelu, the names of a classifier's labels, and that a classifier scores tokens.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.model.config import BertConfig, read_config_and_extras
from bertline.model.formats.files import require_fetched
from bertline.model.formats.huggingface.config import OTHER_CLASSIFIERS, list_labels
from bertline.model.formats.loaded_model import CLASSIFIER
from bertline.model.training.checkpoint import Checkpoint

# The original's one gelu is the form with tanh since 2019-02-07. Its models of 2018 were trained with the exact form
# and have run with that one ever since: hidden states differ by 2e-5. So "gelu" is written for both, and the exact
# form kept here for our own reader.
EXACT_KEY = "bertline_hidden_act"
WRITTEN_ACTIVATION = {"gelu_erf": "gelu"}
LABELS_KEY, ARCHITECTURE_KEY = "id2label", "bertline_architecture"


@dataclass(frozen=True)
class ReadConfig:
    """What a bert_config.json says."""

    bert_config: BertConfig
    extras: dict[str, Any]  # further keys, kept unread
    labels: list[str] | None  # of a classifier, by id
    architecture: str | None  # of a classifier that scores something else than texts


def read_config(path: Path) -> ReadConfig:
    """The content of a bert_config.json; raises what `read_config_and_extras` does."""
    require_fetched(path)
    config, extras = read_config_and_extras(path)
    exact = extras.pop(EXACT_KEY, None)
    if exact is not None:
        if WRITTEN_ACTIVATION.get(exact) != config.hidden_act:
            raise ValueError(f'{path}: {EXACT_KEY} is "{exact}" and hidden_act "{config.hidden_act}"; remove the first')
        config = dataclasses.replace(config, hidden_act=exact)
    labels = _read_labels(extras.get(LABELS_KEY))
    if labels is not None:
        del extras[LABELS_KEY]
    architecture = extras.pop(ARCHITECTURE_KEY, None)
    return ReadConfig(config, extras, labels, architecture if architecture in OTHER_CLASSIFIERS else None)


def make_config(checkpoint: Checkpoint, heads: Sequence[str]) -> str:
    """The text of bert_config.json for a model of these heads, in the original's layout."""
    activation = checkpoint.bert_config.hidden_act
    written: dict[str, Any] = {**checkpoint.config_extras, **checkpoint.bert_config.to_mapping()}
    if activation in WRITTEN_ACTIVATION:
        written |= {"hidden_act": WRITTEN_ACTIVATION[activation], EXACT_KEY: activation}
    if CLASSIFIER in heads:
        written |= _describe_classifier(checkpoint)
    return json.dumps(written, indent=2, sort_keys=True) + "\n"


def number_labels(count: int) -> list[str]:
    """Labels of a classifier whose labels' names are unknown."""
    return [str(number) for number in range(count)]


def _describe_classifier(checkpoint: Checkpoint) -> dict[str, Any]:
    labels, architecture = checkpoint.state.get("labels"), checkpoint.state.get("architecture")
    keys: dict[str, Any] = {}
    if labels is not None and list_labels(checkpoint) != number_labels(len(labels)):
        keys[LABELS_KEY] = {str(number): label for number, label in enumerate(list_labels(checkpoint))}
    if architecture in OTHER_CLASSIFIERS:
        keys[ARCHITECTURE_KEY] = architecture
    return keys


def _read_labels(table: Any) -> list[str] | None:
    """Labels by id; None for anything but a table of ids 0, 1, 2, ..."""
    if not isinstance(table, Mapping) or not table or set(table) != set(number_labels(len(table))):
        return None
    return [str(table[number]) for number in number_labels(len(table))]
