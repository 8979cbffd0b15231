"""Where a pretraining stage starts: at fresh weights, or at the checkpoint of the stage before."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.model.checkpoints.state import Checkpoint, read_checkpoint, select
from bertline.model.config import BertConfig, bert_config
from bertline.model.validation import require_length
from bertline.tokenizer.wordpiece import load_vocabulary

if TYPE_CHECKING:
    from bertline.model.pretrain import PretrainConfig

SCHEDULE_FIELDS = ("learning_rate", "num_train_steps", "num_warmup_steps")


def schedule_of(config: "PretrainConfig") -> dict[str, int | float]:
    """What the stages of one model must agree on."""
    return {name: getattr(config, name) for name in SCHEDULE_FIELDS}


def shape_of(config: "PretrainConfig", vocab_size: int) -> BertConfig:
    """The model's configuration, with the initial range and dropout that the stage asks for."""
    shape = bert_config(config.model, vocab_size)
    changes = {"initializer_range": config.initializer_range} if config.initializer_range > 0 else {}
    if config.dropout >= 0:
        changes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    return dataclasses.replace(shape, **changes)  # type: ignore[arg-type]


def first_stage(vocab: Path | None, config: "PretrainConfig") -> Checkpoint:
    """Fresh weights for a new vocabulary."""
    from bertline.model.bert import initial_weights
    from bertline.model.heads import pretraining_shapes

    if vocab is None:
        raise ValueError("no vocabulary is given; a first stage needs a vocab.txt, a later one a checkpoint")
    shape = shape_of(config, len(load_vocabulary(vocab)))
    return Checkpoint(
        bert_config=shape,
        weights=initial_weights(pretraining_shapes(shape), shape.initializer_range, config.seed),
        vocabulary=vocab.read_bytes(),
        do_lower_case=config.do_lower_case,
        state={"step": 0},
    )


def next_stage(folder: Path, vocab: Path | None, config: "PretrainConfig") -> Checkpoint:
    """The checkpoint of the stage before, checked against what this stage asks for."""
    from bertline.model.heads import pretraining_shapes

    checkpoint = read_checkpoint(folder, with_slots=True)
    select(checkpoint.weights, pretraining_shapes(checkpoint.bert_config), folder)
    if vocab is not None and vocab.read_bytes() != checkpoint.vocabulary:
        raise ValueError(f"{vocab} is not the vocabulary that {folder} was trained with; leave vocab away")
    wanted = shape_of(config, checkpoint.bert_config.vocab_size)
    if wanted != checkpoint.bert_config:
        raise ValueError(
            f"{folder}: {differences(dataclasses.asdict(checkpoint.bert_config), dataclasses.asdict(wanted))}; "
            f'set model, initializer_range and dropout to what the stage before had (here "{config.model}")'
        )
    if checkpoint.do_lower_case != config.do_lower_case:
        raise ValueError(f"{folder}: do_lower_case is {checkpoint.do_lower_case} there; set it likewise")
    schedule = schedule_of(config)
    if checkpoint.state["schedule"] != schedule:
        raise ValueError(
            f"{folder}: {differences(checkpoint.state['schedule'], schedule)}; the stages of a model share one schedule"
        )
    return checkpoint


def refuse_impossible(start: Checkpoint, config: "PretrainConfig", records: Path, num_examples: int) -> None:
    """Refuse what could not end well, before the first step (ValueError)."""
    require_length(config.max_seq_length, start.bert_config.max_position_embeddings)
    if start.state["step"] >= config.last_step:
        raise ValueError(
            f"the checkpoint is at step {start.state['step']} and this stage ends at step {config.last_step}; "
            "raise stop_at_step, which counts over all stages"
        )
    if num_examples < config.train_batch_size:
        raise ValueError(
            f"{records}: {num_examples} examples are fewer than one batch of {config.train_batch_size}; "
            "lower train_batch_size, or prepare more text or a higher dupe_factor"
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The keys whose values differ, in words."""
    keys = [key for key in there if there[key] != here.get(key)]
    return ", ".join(f"{key} is {there[key]} there and {here.get(key)} here" for key in keys)
