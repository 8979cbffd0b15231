"""Where run_pretraining starts: at output_dir's newest checkpoint, at init_checkpoint, or at fresh weights."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.formats.loaded_model import INITIALIZED_HEADS, initialize_heads
from bertline.model.formats.tf1.checkpoint import ReadVariables, read_variables
from bertline.model.formats.tf1.folder import BESIDE, find_checkpoints, locate_checkpoint
from bertline.model.training.checkpoint import Checkpoint, select
from bertline.progress import say


@dataclass(frozen=True)
class Start:
    """A model with both heads, and how far its training went."""

    checkpoint: Checkpoint
    where: Path | None = None  # the checkpoint of output_dir that goes on
    beside: Mapping[str, Any] = field(default_factory=dict)  # what bertline keeps with that one


def find_start(output_dir: Path, init_checkpoint: Path | None, shape: BertConfig, seed: int, *, fresh: bool) -> Start:
    """The model to go on with; weights from nowhere only if `fresh`.

    Raises FileNotFoundError when there is none, ValueError for a damaged one or one of another shape.
    """
    names = find_checkpoints(output_dir)
    if names:
        return _read_newest(names, shape)
    if init_checkpoint is not None:
        return Start(_read_initial(init_checkpoint, shape, seed))
    if not fresh:
        raise FileNotFoundError(
            f"{output_dir}: holds no checkpoint to evaluate; give the output_dir of a training, or init_checkpoint"
        )
    return Start(_make_fresh(shape, seed))


def _make_fresh(shape: BertConfig, seed: int) -> Checkpoint:
    from bertline.model.bert import initial_weights

    return _make_checkpoint(shape, initial_weights(pretraining_shapes(shape), shape.initializer_range, seed))


def _read_initial(path: Path, shape: BertConfig, seed: int) -> Checkpoint:
    """The weights of a TF1 checkpoint, by name; heads that it lacks are made afresh, which is said."""
    with locate_checkpoint(path) as prefix:
        read = read_variables(prefix, shape)
    missing = [part for part in INITIALIZED_HEADS.values() if part not in read.heads]
    if missing:
        say(f"{path}: has no {', no '.join(missing)}; fresh weights take its place")
    checkpoint = initialize_heads(_make_checkpoint(shape, read.weights), missing, seed, path)
    return dataclasses.replace(checkpoint, weights=select(checkpoint.weights, pretraining_shapes(shape), path))


def _read_newest(names: list[Path], shape: BertConfig) -> Start:
    """The newest checkpoint; where that is damaged, the one before."""
    from bertline.model.training.update import ADAM_M, ADAM_V

    prefix, read = _read_first_whole(names, shape)
    shapes = pretraining_shapes(shape)
    weights, slots = select(read.weights, shapes, prefix), None
    if read.slots is not None:
        slots = {name + slot: read.slots[name + slot] for name in shapes for slot in (ADAM_M, ADAM_V)}
    checkpoint = dataclasses.replace(_make_checkpoint(shape, weights), slots=slots, state={"step": read.step})
    beside = prefix.with_name(prefix.name + BESIDE)
    return Start(checkpoint, prefix, json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {})


def _read_first_whole(names: list[Path], shape: BertConfig) -> tuple[Path, ReadVariables]:
    """The first that can be read; the first one's error when none can."""
    errors: list[ValueError | FileNotFoundError] = []
    for name in names:
        try:
            with locate_checkpoint(name) as prefix:
                read = read_variables(prefix, shape)
        except (ValueError, FileNotFoundError) as error:
            errors.append(error)
            continue
        if errors:
            say(f"{names[0]}: damaged, going back to {name.name} ({errors[0]})")
        return name, read
    raise errors[0]


def _make_checkpoint(shape: BertConfig, weights: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(shape, weights, vocabulary=b"", do_lower_case=True, state={"step": 0})
