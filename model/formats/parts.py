"""Which parts of a BERT a set of weights holds: encoder, pooler, heads; each whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bertline.model.config import BertConfig

Shapes = dict[str, tuple[int, ...]]

ENCODER, POOLER = "encoder", "pooler"
MASKED_LM, NEXT_SENTENCE = "masked-LM head", "next-sentence head"
CLASSIFIER, ANSWER_SPANS = "classifier", "answer-span head"
# Variables that only a training program keeps, and that say nothing of the model.
TRAINING_VARIABLES = ("global_step",)
SLOT_NAMES = ("adam_m", "adam_v")


def part_shapes(config: BertConfig, labels: int = 0) -> dict[str, Shapes]:
    """Part -> name and shape of its variables; a classifier only for `labels` above 0."""
    from bertline.model.heads import classifier_shapes, pretraining_shapes, span_shapes

    encoder = pretraining_shapes(config)
    parts: dict[str, Shapes] = {ENCODER: {}, POOLER: {}, MASKED_LM: {}, NEXT_SENTENCE: {}}
    prefixes = {"bert/pooler/": POOLER, "cls/predictions/": MASKED_LM, "cls/seq_relationship/": NEXT_SENTENCE}
    for name, shape in encoder.items():
        part = next((part for prefix, part in prefixes.items() if name.startswith(prefix)), ENCODER)
        parts[part][name] = shape
    parts[ANSWER_SPANS] = {name: shape for name, shape in span_shapes(config).items() if name.startswith("cls/")}
    if labels:
        head = classifier_shapes(config, labels)
        parts[CLASSIFIER] = {name: head[name] for name in ("output_weights", "output_bias")}
    return parts


def parts_of(weights: Mapping[str, np.ndarray], config: BertConfig, where: Path) -> list[str]:
    """The parts that `weights` holds, the encoder first.

    Raises ValueError, naming the variable and both shapes, for another shape than the configuration asks for, and
    naming what is missing for a part that is not whole and for an encoder that is not there at all.
    """
    labels = weights["output_weights"].shape[0] if "output_weights" in weights else 0
    found = []
    for part, shapes in part_shapes(config, labels).items():
        present = [name for name in shapes if name in weights]
        for name in present:
            if weights[name].shape != shapes[name]:
                raise ValueError(
                    f"{where}: {name} has shape {list(weights[name].shape)}, its configuration asks for "
                    f"{list(shapes[name])}; take the configuration that belongs to these weights"
                )
        if len(present) == len(shapes):
            found.append(part)
        elif present or part == ENCODER:
            missing = sorted(set(shapes) - set(present))
            shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise ValueError(f"{where}: the {part} is not whole, {shown} missing; take the files as they were released")
    return found


def unused(weights: Mapping[str, np.ndarray], config: BertConfig) -> list[str]:
    """Names that are no variable of a BERT."""
    labels = weights["output_weights"].shape[0] if "output_weights" in weights else 0
    known = {name for shapes in part_shapes(config, labels).values() for name in shapes}
    return sorted(set(weights) - known)
