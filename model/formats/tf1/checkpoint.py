"""A checkpoint of google-research/bert, as TensorFlow 1 wrote it <-> our model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.config import BertConfig
from bertline.model.formats.case import infer_case
from bertline.model.formats.files import read_bytes, write_json
from bertline.model.formats.loaded_model import CLASSIFIER, LoadedModel, find_heads, head_shapes
from bertline.model.formats.tf1.config import ReadConfig, make_config, number_labels, read_config
from bertline.model.formats.tf1.folder import STATE_FILE, find_configuration, find_vocabulary, locate_checkpoint
from bertline.model.formats.tf1.variables import Variables, open_variables, write_variables
from bertline.model.training.checkpoint import BERT_CONFIG_FILE, TOKENIZER_FILE, VOCABULARY_FILE, Checkpoint
from bertline.tokenizer.wordpiece import Vocabulary, parse_vocabulary

STEP = "global_step"
SLOT_NAMES = ("adam_m", "adam_v")
NAMESPACE = "bert/"  # of an encoder's variables
FLOATS = ("float32", "float16", "bfloat16", "float64")
SHOWN = 3  # variables named in a message

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ReadVariables:
    """What a checkpoint's files hold of a BERT."""

    weights: Arrays
    heads: tuple[str, ...]
    slots: Arrays | None  # Adam's; None where they are not whole
    step: int
    unused: tuple[str, ...]
    remarks: tuple[str, ...]


def read_tf1(path: Path, *, vocab_file: Path | None = None, bert_config_file: Path | None = None) -> LoadedModel:
    """The model in a released zip, a folder, or of a checkpoint's name, with or without the ending of one of its files.

    Adam's slots come with it where they are whole, and the step. Raises FileNotFoundError for a file that is not
    there, ValueError for one that is cut, changed or of another kind, and for files that do not belong together.
    """
    with locate_checkpoint(path) as prefix:
        folder = prefix.parent
        config_file = bert_config_file or find_configuration(folder)
        config = read_config(config_file)
        vocab_file = vocab_file or find_vocabulary(folder)
        content = read_bytes(vocab_file)
        vocabulary = parse_vocabulary(content, str(vocab_file))
        _require_vocabulary(vocabulary, vocab_file, config.bert_config, config_file)
        read = read_variables(prefix, config.bert_config)
        do_lower_case, case_remark = infer_case(vocabulary, folder, path)
        head, head_remarks = _read_labels(config, read.weights, config_file) if CLASSIFIER in read.heads else ({}, [])
    remarks = (*read.remarks, *head_remarks, *([case_remark] if case_remark else []))
    state = {"step": read.step, **head}
    checkpoint = Checkpoint(config.bert_config, read.weights, content, do_lower_case, state, read.slots, config.extras)
    return LoadedModel(path, "tf1", checkpoint, read.heads, read.unused, remarks)


def read_variables(prefix: Path, config: BertConfig) -> ReadVariables:
    """What the checkpoint of this name holds of a BERT of this shape; errors are those of `read_tf1`."""
    with open_variables(prefix) as variables:
        known = _find_known(variables, config)
        weights, remarks = _read_weights(variables, known)
        heads = find_heads(weights, config, prefix)
        slots, slot_remarks = _read_slots(variables, list(weights))
        step = int(variables.read(STEP)) if STEP in variables.shapes else 0
        return ReadVariables(
            weights, heads, slots, step, tuple(_find_unused(variables, known)), (*remarks, *slot_remarks)
        )


def write_tf1(folder: Path, checkpoint: Checkpoint, name: str = "bert_model.ckpt") -> None:
    """Write what the original's programs read into an existing folder, with the slots where there are some.

    The files of the same model are the same bytes, those of TensorFlow 1.15's saver. A tokenizer_config.json beside
    them says whether text is lower-cased, which the format does not. Raises ValueError for heads or slots
    that are not whole, OSError when the files could not be written.
    """
    heads = find_heads(checkpoint.weights, checkpoint.bert_config, folder)
    config = make_config(checkpoint, heads)
    arrays = dict(checkpoint.weights)
    if checkpoint.slots is not None:
        _require_own_slots(checkpoint.slots, arrays, folder)
        arrays |= {**checkpoint.slots, STEP: np.array(checkpoint.state.get("step", 0), np.int64)}
    write_variables(folder / name, arrays)
    (folder / BERT_CONFIG_FILE).write_text(config, encoding="utf-8")
    (folder / VOCABULARY_FILE).write_bytes(checkpoint.vocabulary)
    write_json(folder / TOKENIZER_FILE, {"do_lower_case": checkpoint.do_lower_case})
    note = f"model_checkpoint_path: {json.dumps(name)}\nall_model_checkpoint_paths: {json.dumps(name)}\n"
    (folder / STATE_FILE).write_text(note, encoding="utf-8")


def _require_vocabulary(vocabulary: Vocabulary, vocab_file: Path, config: BertConfig, config_file: Path) -> None:
    if len(vocabulary) != config.vocab_size:
        raise ValueError(
            f"{vocab_file} has {len(vocabulary):,} entries, but vocab_size in {config_file} is {config.vocab_size:,}; "
            "take the vocabulary and the configuration that belong to these weights"
        )


def _find_known(variables: Variables, config: BertConfig) -> list[str]:
    """The variables that belong to a BERT; ValueError when they are another model's."""
    if not any(name.startswith(NAMESPACE) for name in variables.shapes):
        shown = ", ".join(sorted(variables.shapes)[:SHOWN])
        raise ValueError(
            f"{variables.prefix}: holds no BERT, its {len(variables.shapes)} variables are {shown}, ...; only those "
            f"of google-research/bert are read, whose names begin with {NAMESPACE}"
        )
    labels = variables.shapes.get("output_weights", (0,))[0]
    known = {name for shapes in head_shapes(config, labels).values() for name in shapes}
    return sorted(known & set(variables.shapes))


def _read_weights(variables: Variables, known: list[str]) -> tuple[Arrays, list[str]]:
    """The weights as float32, and a remark where they were something else."""
    weights, others = {}, set()
    for name in known:
        kind = variables.types[name]
        if kind not in FLOATS:
            raise ValueError(f"{variables.prefix}: {name} is {kind}, not a weight; take another checkpoint")
        if kind != "float32":
            others.add(kind)
        weights[name] = variables.read(name).astype(np.float32, copy=False)
    return weights, [f"weights in {' and '.join(sorted(others))} were made float32"] if others else []


def _read_slots(variables: Variables, names: list[str]) -> tuple[Arrays | None, list[str]]:
    """Adam's slots of the weights, None where they are not whole; remarks on slots that were left out."""
    wanted = [f"{name}/{slot}" for name in names for slot in SLOT_NAMES]
    there = [name for name in wanted if name in variables.shapes]
    others = sorted(
        {slot for owner, slot in map(_split_slot, variables.shapes) if owner in names and slot not in SLOT_NAMES}
    )
    remarks = [f"slots of another optimizer ({', '.join(others)}) were left out"] if others else []
    if not there:
        return None, remarks
    if len(there) < len(wanted):
        missing = next(name for name in wanted if name not in variables.shapes)
        remark = f"only {len(there)} of {len(wanted)} Adam slots are there, {missing} is not; they were left out"
        return None, [remark, *remarks]
    slots = {name: variables.read(name) for name in wanted}
    for name, array in slots.items():
        if array.shape != variables.shapes[_split_slot(name)[0]]:
            raise ValueError(f"{variables.prefix}: {name} has another shape than its variable; take another checkpoint")
    return {name: array.astype(np.float32, copy=False) for name, array in slots.items()}, remarks


def _split_slot(name: str) -> tuple[str, str]:
    """The variable that a slot belongs to, and the slot's name."""
    owner, _, slot = name.rpartition("/")
    return owner, slot


def _find_unused(variables: Variables, known: list[str]) -> list[str]:
    """What is neither a known variable, nor a slot of any variable, nor the step."""
    names = set(variables.shapes) - {STEP}
    return sorted(name for name in names if name not in known and _split_slot(name)[0] not in names)


def _read_labels(config: ReadConfig, weights: Mapping[str, np.ndarray], path: Path) -> tuple[dict[str, Any], list[str]]:
    """What the state says of a classifier, and remarks."""
    count = weights["output_weights"].shape[0]
    if config.labels is not None and len(config.labels) != count:
        raise ValueError(f"{path}: names {len(config.labels)} labels, but output_weights has {count} rows; correct it")
    state: dict[str, Any] = {"labels": config.labels or number_labels(count)}
    if config.architecture is not None:
        state["architecture"] = config.architecture
    if config.labels is not None:
        return state, []
    return state, [f"a TF1 checkpoint does not name its classifier's {count} labels; they are numbered from 0"]


def _require_own_slots(slots: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray], folder: Path) -> None:
    wanted = {f"{name}/{slot}": array.shape for name, array in weights.items() for slot in SLOT_NAMES}
    there = {name: array.shape for name, array in slots.items()}
    wrong = sorted(name for name in wanted | there if there.get(name) != wanted.get(name))
    if wrong:
        raise ValueError(
            f"{folder}: Adam's slots do not belong to these weights, {wrong[0]} is missing, too many, or of "
            "another shape; write the model without slots"
        )
