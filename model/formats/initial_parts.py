"""Parts that a model lacks, made afresh where that is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bertline.model.formats.parts import MASKED_LM, NEXT_SENTENCE, POOLER, part_shapes, parts_of
from bertline.model.training.checkpoint import Checkpoint

# What may be asked for, by the name of its flag's value.
NAMES = {"pooler": POOLER, "masked_lm": MASKED_LM, "next_sentence": NEXT_SENTENCE}


def listed(names: str) -> list[str]:
    """The parts that a comma-separated list names; ValueError for an unknown one."""
    found = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in found if name not in NAMES]
    if unknown:
        raise ValueError(f'initialize names "{unknown[0]}"; known: {", ".join(NAMES)}')
    return [NAMES[name] for name in found]


def with_initial_parts(checkpoint: Checkpoint, asked: Sequence[str], seed: int, where: Path) -> Checkpoint:
    """The model with fresh weights for the parts `asked` for; ValueError for one that it has."""
    from bertline.model.bert import initial_weights

    there = parts_of(checkpoint.weights, checkpoint.bert_config, where)
    weights = dict(checkpoint.weights)
    for part in asked:
        if part in there:
            raise ValueError(f"{where}: has a {part}, it need not be initialized; leave it away from initialize")
        shapes = part_shapes(checkpoint.bert_config)[part]
        weights |= initial_weights(shapes, checkpoint.bert_config.initializer_range, seed)
    return replace(checkpoint, weights=weights, slots=None if asked else checkpoint.slots)


def refuse_missing(checkpoint: Checkpoint, needed: Sequence[str], where: Path) -> None:
    """ValueError that names the parts of `needed` that the model lacks, and how to ask for fresh ones."""
    there = parts_of(checkpoint.weights, checkpoint.bert_config, where)
    flags = {part: name for name, part in NAMES.items()}
    missing = [part for part in needed if part not in there]
    if missing:
        raise ValueError(
            f"{where}: has no {', no '.join(missing)}; to start with fresh ones ask for them: "
            f"--initialize={','.join(flags[part] for part in missing)}"
        )
