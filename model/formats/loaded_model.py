"""A model read from any format, and its heads: which it has, which are required, and which are initialized.

The pooler counts as a head here. A head is there with all of its variables, or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bertline.model.config import BertConfig, Shapes, classifier_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.files import name_some
from bertline.model.training.checkpoint import Checkpoint

ENCODER, POOLER = "encoder", "pooler"
MASKED_LM, NEXT_SENTENCE = "masked-LM head", "next-sentence head"
CLASSIFIER, ANSWER_SPANS = "classifier", "answer-span head"
# The heads that can be asked for, by the name of their flag's value.
INITIALIZED_HEADS = {"pooler": POOLER, "masked_lm": MASKED_LM, "next_sentence": NEXT_SENTENCE}
PREFIXES = {"bert/pooler/": POOLER, "cls/predictions/": MASKED_LM, "cls/seq_relationship/": NEXT_SENTENCE}


@dataclass(frozen=True)
class LoadedModel:
    """What a reader of another format hands over."""

    path: Path
    format: str  # bertline, tf1, huggingface, sentence-transformers or savedmodel
    checkpoint: Checkpoint  # weights by google-research/bert's names, without variables that a BERT does not have
    heads: tuple[str, ...]
    unused: tuple[str, ...] = ()  # variables of the file that a BERT does not have
    remarks: tuple[str, ...] = ()  # what a person should know, such as a guessed case


def head_shapes(config: BertConfig, labels: int = 0) -> dict[str, Shapes]:
    """The encoder, and each head -> name and shape of its variables; a classifier only for `labels` above 0."""
    heads: dict[str, Shapes] = {ENCODER: {}, POOLER: {}, MASKED_LM: {}, NEXT_SENTENCE: {}}
    for name, shape in pretraining_shapes(config).items():
        head = next((head for prefix, head in PREFIXES.items() if name.startswith(prefix)), ENCODER)
        heads[head][name] = shape
    heads[ANSWER_SPANS] = {name: shape for name, shape in span_shapes(config).items() if name.startswith("cls/")}
    if labels:
        shapes = classifier_shapes(config, labels)
        heads[CLASSIFIER] = {name: shapes[name] for name in ("output_weights", "output_bias")}
    return heads


def find_heads(weights: Mapping[str, np.ndarray], config: BertConfig, where: Path) -> tuple[str, ...]:
    """The heads that `weights` holds beside the encoder.

    Raises ValueError, naming the variable and both shapes, for another shape than the configuration asks for, and
    naming what is missing for an encoder or a head that is not whole.
    """
    found = []
    for head, shapes in head_shapes(config, _count_labels(weights)).items():
        present = [name for name in shapes if name in weights]
        for name in present:
            if weights[name].shape != shapes[name]:
                raise ValueError(
                    f"{where}: {name} has shape {list(weights[name].shape)}, its configuration asks for "
                    f"{list(shapes[name])}; take the configuration that belongs to these weights"
                )
        if len(present) == len(shapes):
            found.append(head)
        elif present or head == ENCODER:
            missing = sorted(set(shapes) - set(present))
            raise ValueError(
                f"{where}: the {head} is not whole, {name_some(missing)} missing; take the files as they were released"
            )
    return tuple(found[1:])


def find_unused(weights: Mapping[str, np.ndarray], config: BertConfig) -> list[str]:
    """The names of variables that a BERT does not have."""
    known = {name for shapes in head_shapes(config, _count_labels(weights)).values() for name in shapes}
    return sorted(set(weights) - known)


def _count_labels(weights: Mapping[str, np.ndarray]) -> int:
    return weights["output_weights"].shape[0] if "output_weights" in weights else 0


def require_known_heads(names: str) -> None:
    """ValueError for a comma-separated list that names a head that cannot be initialized."""
    for name in _split(names):
        if name not in INITIALIZED_HEADS:
            raise ValueError(f'initialize names "{name}"; known: {", ".join(INITIALIZED_HEADS)}')


def parse_heads(names: str) -> list[str]:
    """The heads that a comma-separated list asks for."""
    require_known_heads(names)
    return [INITIALIZED_HEADS[name] for name in _split(names)]


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def initialize_heads(checkpoint: Checkpoint, heads: Sequence[str], seed: int, where: Path) -> Checkpoint:
    """The model with fresh weights for these heads; ValueError for one that it has."""
    from bertline.model.bert import initial_weights

    present = find_heads(checkpoint.weights, checkpoint.bert_config, where)
    weights = dict(checkpoint.weights)
    for head in heads:
        if head in present:
            raise ValueError(f"{where}: has a {head}, it need not be initialized; leave it out of initialize")
        shapes = head_shapes(checkpoint.bert_config)[head]
        weights |= initial_weights(shapes, checkpoint.bert_config.initializer_range, seed)
    return replace(checkpoint, weights=weights, slots=None if heads else checkpoint.slots)


def require_heads(checkpoint: Checkpoint, heads: Sequence[str], where: Path) -> None:
    """ValueError that names the heads that the model lacks, and how to ask for fresh ones."""
    present = find_heads(checkpoint.weights, checkpoint.bert_config, where)
    flags = {head: name for name, head in INITIALIZED_HEADS.items()}
    missing = [head for head in heads if head not in present]
    if missing:
        raise ValueError(
            f"{where}: has no {', no '.join(missing)}; to start with fresh ones, ask for them: "
            f"--initialize={','.join(flags[head] for head in missing)}"
        )
