"""Where a pretraining stage starts: at fresh weights, at a released model, or at the stage before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bertline.model.attention_init import NEIGHBOURS, RANDOM, start_at_neighbours
from bertline.model.config import BertConfig, bert_config
from bertline.model.training.checkpoint import OPTIMIZER_FILE, Checkpoint, read_arrays, read_checkpoint, select
from bertline.model.training.stage import describe_differences
from bertline.settings import require_length
from bertline.tokenizer.wordpiece import load_vocabulary

if TYPE_CHECKING:
    from bertline.model.formats.loaded_model import LoadedModel
    from bertline.model.pretraining.config import PretrainConfig

NEW_MODEL = "base"
FREE_TO_CHANGE = ("initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")  # in a released model
SCHEDULE_FIELDS = ("learning_rate", "num_train_steps", "num_warmup_steps", "learning_rate_decay")


def start_of_stage(
    vocab: Path | None, checkpoint: Path | None, initial: LoadedModel | None, config: PretrainConfig
) -> Checkpoint:
    """What a stage starts with: the stage before (`checkpoint`), the weights of `initial`, or fresh ones."""
    if checkpoint is not None and initial is not None:
        raise ValueError("both the stage before (checkpoint) and a released model (initial) are given; give one")
    if config.initialize and initial is None:
        raise ValueError("initialize is for a released model (initial), and none is given; leave it out")
    if config.attention_initializer != RANDOM and initial is not None:
        raise ValueError("attention_initializer is for fresh weights, not for a released model's; leave it out")
    if checkpoint is not None:
        return next_stage(checkpoint, vocab, config)
    return first_stage(vocab, config) if initial is None else released_model(initial, vocab, config)


def schedule_of(config: PretrainConfig) -> dict[str, int | float]:
    """What the stages of one model must agree on."""
    return {name: getattr(config, name) for name in SCHEDULE_FIELDS}


def shape_of(config: PretrainConfig, vocab_size: int, there: BertConfig | None = None) -> BertConfig:
    """The model's configuration, with the initial range and dropout that the stage asks for.

    `there` is that of the model that goes on, which is kept where the stage names no other.
    """
    shape = there if there is not None and not config.model else bert_config(config.model or NEW_MODEL, vocab_size)
    changes = {"initializer_range": config.initializer_range} if config.initializer_range > 0 else {}
    if config.dropout >= 0:
        changes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    if config.pre_layer_norm:
        changes |= {"pre_layer_norm": True}
    return dataclasses.replace(shape, **changes)  # type: ignore[arg-type]


def first_stage(vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """Fresh weights for a new vocabulary."""
    from bertline.model.bert import initial_weights
    from bertline.model.heads import pretraining_shapes

    if vocab is None:
        raise ValueError("no vocabulary is given; a first stage needs a vocab.txt, a later one a checkpoint")
    shape = shape_of(config, len(load_vocabulary(vocab)))
    weights = initial_weights(pretraining_shapes(shape), shape.initializer_range, config.seed)
    if config.attention_initializer == NEIGHBOURS:
        weights = start_at_neighbours(weights, shape)
    return Checkpoint(
        bert_config=shape,
        weights=weights,
        vocabulary=vocab.read_bytes(),
        do_lower_case=config.do_lower_case,
        state={"step": 0},
    )


def released_model(opened: LoadedModel, vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """The weights of a model of any format, for a schedule of its own: Adam's slots start at zero.

    A head that the model lacks is made afresh if `config.initialize` asks for it, and refused otherwise.
    """
    from bertline.model.formats.loaded_model import (
        MASKED_LM,
        NEXT_SENTENCE,
        POOLER,
        initialize_heads,
        parse_heads,
        require_heads,
    )
    from bertline.model.heads import pretraining_shapes

    path = opened.path
    checkpoint = initialize_heads(opened.checkpoint, parse_heads(config.initialize), config.seed, path)
    require_heads(checkpoint, (POOLER, MASKED_LM, NEXT_SENTENCE), path)
    _require_same_text(path, checkpoint, vocab, config)
    shape = shape_of(config, checkpoint.bert_config.vocab_size, checkpoint.bert_config)
    _require_same_shape(path, checkpoint.bert_config, shape, FREE_TO_CHANGE)
    weights = select(checkpoint.weights, pretraining_shapes(shape), path)
    return dataclasses.replace(checkpoint, bert_config=shape, weights=weights, slots=None, state={"step": 0})


def next_stage(folder: Path, vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """The checkpoint of the stage before, checked against what this stage asks for."""
    from bertline.model.heads import pretraining_shapes

    checkpoint = read_checkpoint(folder)
    if "schedule" not in checkpoint.state:
        raise ValueError(f"{folder}: not a stage of pretraining, its schedule is unknown; give it as --initial")
    checkpoint = dataclasses.replace(checkpoint, slots=read_arrays(folder / OPTIMIZER_FILE))
    select(checkpoint.weights, pretraining_shapes(checkpoint.bert_config), folder)
    _require_same_text(folder, checkpoint, vocab, config)
    wanted = shape_of(config, checkpoint.bert_config.vocab_size, checkpoint.bert_config)
    _require_same_shape(folder, checkpoint.bert_config, wanted)
    schedule = schedule_of(config)
    other = describe_differences(checkpoint.state["schedule"], schedule)
    if other:
        raise ValueError(f"{folder}: {other}; the stages of a model share one schedule")
    return checkpoint


def _require_same_text(path: Path, checkpoint: Checkpoint, vocab: Path | None, config: PretrainConfig) -> None:
    if vocab is not None and vocab.read_bytes() != checkpoint.vocabulary:
        raise ValueError(
            f"{vocab} is not the vocabulary of {path}; leave vocab out and make the records with that one, or "
            "change the model's by `bertline convert --new_vocab`"
        )
    if checkpoint.do_lower_case != config.do_lower_case:
        raise ValueError(f"{path}: do_lower_case is {checkpoint.do_lower_case} there; set it likewise")


def _require_same_shape(path: Path, there: BertConfig, wanted: BertConfig, free: Sequence[str] = ()) -> None:
    kept = {name: value for name, value in dataclasses.asdict(there).items() if name not in free}
    other = describe_differences(kept, dataclasses.asdict(wanted))
    if other:
        raise ValueError(f"{path}: {other}; leave out model, initializer_range and dropout, or set them likewise")


def require_possible(start: Checkpoint, config: PretrainConfig, records: Path | str, num_examples: int) -> None:
    """Refuse what could not end well, before the first step (ValueError)."""
    require_length(config.max_seq_length, start.bert_config.max_position_embeddings)
    if start.state["step"] >= config.last_step:
        spent = "the schedule is at its end: train the stage before with a smaller stop_at_step, or give it as initial"
        advice = "raise stop_at_step, which counts over all stages"
        raise ValueError(
            f"the checkpoint is at step {start.state['step']} and this stage ends at step {config.last_step}; "
            f"{spent if config.last_step == config.num_train_steps else advice}"
        )
    if num_examples < config.train_batch_size:
        raise ValueError(
            f"{records}: {num_examples} examples are fewer than one batch of {config.train_batch_size}; "
            "lower train_batch_size, or prepare more text or a higher dupe_factor"
        )
