"""Records -> a pretrained checkpoint: one stage of masked-LM and next-sentence training.

It starts at fresh weights, at a released model, or at the stage before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bertline.model.attention_init import NEIGHBOURS, RANDOM, start_at_neighbours
from bertline.model.config import BertConfig, parameter_count, pretraining_shapes
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.evaluate import HeldoutScore, open_heldout
from bertline.model.records.reader import Records, batch_indices, open_records, require_tokenizer, training_batch
from bertline.model.training.backends.choice import ALONE, Hosts, use_backend
from bertline.model.training.checkpoint import (
    LOG_FILE,
    OPTIMIZER_FILE,
    Arrays,
    Checkpoint,
    Row,
    TrainingLog,
    digest_of,
    read_arrays,
    read_checkpoint,
    rows_of,
    select,
    training_rows,
)
from bertline.model.training.snapshots import Snapshots, lay_beside, restore
from bertline.model.training.speed import StepWork, pretraining_work
from bertline.model.training.stage import Stage, Training
from bertline.progress import say
from bertline.settings import describe_differences, list_settings, require_length
from bertline.tokenizer.wordpiece import load_vocabulary

if TYPE_CHECKING:
    import numpy as np

    from bertline.model.bert import Dropout, Tensor, Weights
    from bertline.model.formats.loaded_model import LoadedModel
    from bertline.model.training.update import Update, Values

FREE_TO_CHANGE = ("initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")  # in a released model


def run(
    records: Path,
    vocab: Path | None,
    out: Path,
    config: PretrainConfig,
    *,
    work: Path,
    checkpoint: Path | None = None,
    initial: Callable[[], LoadedModel] | None = None,
    heldout: Path | None = None,
    log_dir: Path | None = None,
    hosts: Hosts = ALONE,
    digests: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, int | float]:
    """Train one stage and write its checkpoint into `out`.

    `vocab` is a vocab.txt, or None where a model brings its own: `checkpoint`, the folder of the stage before, whose
    schedule goes on with its weights, Adam slots, step and log, or `initial`, which reads a model of any format, whose
    weights start a schedule of their own. On the records `heldout`, weights are scored on the way and at the end; the
    best are written into `out/best` if they are not the last (training/best.py). Snapshots go to `work`, which the
    caller deletes; those that are to stay are laid beside it. The same call after a crash goes on from the newest, and
    (compiled by XLA) ends with the same bytes; it is refused where the `digests` of its input are others. TensorBoard
    events go to `log_dir`. Of several `hosts`, which all call this and read the same files, the first writes.
    Raises PreemptedError when SIGTERM came, after a snapshot.
    """
    use_backend(config.backend)
    opened = None if initial is None else initial()  # once the backend is chosen, for it loads Keras
    start = choose_start(vocab, checkpoint, opened, config)
    examples = open_records(records, config.max_seq_length, start.bert_config.vocab_size)
    require_possible(start, config, records, len(examples))
    held_out = open_heldout(heldout, config, start.bert_config.vocab_size)
    for folder in (records, *([heldout] if heldout else [])):
        require_tokenizer(folder, start.vocabulary, start.do_lower_case)
    lengths = ", ".join(map(str, examples.bin_widths))
    say(f"{records}: {len(examples):,} {examples.schema} examples of length {lengths}")
    identity = {
        **list_settings(config),
        **digests,
        "first_step": start.state["step"],
        "first_weights": digest_of(start.weights),
        "examples": len(examples),
        "heldout_examples": len(held_out or ()),
        "length_bins": dict(zip(map(str, examples.bin_widths), examples.bin_sizes)),
    }
    stage = new_stage(config, examples, held_out, start.bert_config, start.state["step"], identity, hosts)
    reached, log = restore(work, start, _read_rows_before(checkpoint), identity, config)
    hosts.agree({"the step that training goes on from": reached.state["step"]})
    snapshots = Snapshots(work, config.keep_checkpoints, config.keep_checkpoints_every_steps)
    training = Training(stage, reached, log, work, log_dir=log_dir, snapshots=snapshots)
    del start, reached, opened  # the training has copies of its own: these would be the model's size three times over
    final = training.run()
    scores = training.write(out, final)
    if hosts.writes and config.keep_checkpoints_every_steps:
        lay_beside(work.with_suffix(".snapshots"), work, config.keep_checkpoints_every_steps)
    return {**count_training(final, log, config, examples, stage.first_step), **scores}


def choose_start(
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
        return start_from_stage(checkpoint, vocab, config)
    return start_fresh(vocab, config) if initial is None else start_from_released(initial, vocab, config)


def start_fresh(vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """Fresh weights for a new vocabulary."""
    from bertline.model.bert import initial_weights

    if vocab is None:
        raise ValueError("no vocabulary is given; a first stage needs a vocab.txt, a later one a checkpoint")
    shape = config.model_shape(len(load_vocabulary(vocab)))
    weights = initial_weights(pretraining_shapes(shape), shape.initializer_range, config.seed)
    if config.attention_initializer == NEIGHBOURS:
        weights = start_at_neighbours(weights, shape)
    return Checkpoint(shape, weights, vocab.read_bytes(), config.do_lower_case, state={"step": 0})


def start_from_released(opened: LoadedModel, vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """The weights of a model of any format, for a schedule of its own: Adam's slots start at zero.

    A head that the model lacks is made afresh if `config.initialize` asks for it, and refused otherwise.
    """
    from bertline.model.formats.loaded_model import INITIALIZED_HEADS, initialize_heads, parse_heads, require_heads

    path = opened.path
    checkpoint = initialize_heads(opened.checkpoint, parse_heads(config.initialize), config.seed, path)
    require_heads(checkpoint, tuple(INITIALIZED_HEADS.values()), path)
    _require_same_text(path, checkpoint, vocab, config)
    shape = config.model_shape(checkpoint.bert_config.vocab_size, checkpoint.bert_config)
    _require_same_shape(path, checkpoint.bert_config, shape, FREE_TO_CHANGE)
    weights = select(checkpoint.weights, pretraining_shapes(shape), path)
    return dataclasses.replace(checkpoint, bert_config=shape, weights=weights, slots=None, state={"step": 0})


def start_from_stage(folder: Path, vocab: Path | None, config: PretrainConfig) -> Checkpoint:
    """The checkpoint of the stage before, checked against what this stage asks for."""
    checkpoint = read_checkpoint(folder)
    if "schedule" not in checkpoint.state:
        raise ValueError(f"{folder}: not a stage of pretraining, its schedule is unknown; give it as --initial")
    checkpoint = dataclasses.replace(checkpoint, slots=read_arrays(folder / OPTIMIZER_FILE))
    select(checkpoint.weights, pretraining_shapes(checkpoint.bert_config), folder)
    _require_same_text(folder, checkpoint, vocab, config)
    wanted = config.model_shape(checkpoint.bert_config.vocab_size, checkpoint.bert_config)
    _require_same_shape(folder, checkpoint.bert_config, wanted)
    other = describe_differences(checkpoint.state["schedule"], config.schedule_settings)
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


def new_stage(
    config: PretrainConfig,
    examples: Records,
    heldout: Records | None,
    shape: BertConfig,
    first_step: int,
    identity: Mapping[str, Any],
    hosts: Hosts = ALONE,
) -> Stage:
    """The stage that `config` describes, of a model of that shape."""

    def work_of(batch: Arrays) -> StepWork:
        length, predictions = batch["input_ids"].shape[-1], batch["masked_lm_positions"].shape[-1]
        return pretraining_work(shape, config.train_batch_size, length, predictions)

    return Stage(
        label=f"pretrain {config.max_seq_length}",
        update=_new_update(config, shape),
        data=RecordBatches(examples, config.train_batch_size, config.seed, first_step),
        first_step=first_step,
        last_step=config.last_step,
        work_of=work_of,
        identity=identity,
        score=None if heldout is None else HeldoutScore(heldout, shape, config, hosts),
        eval_every_steps=config.eval_every_steps,
        save_checkpoints_steps=config.save_checkpoints_steps,
        steps_per_call=config.steps_per_call,
        jit_compile=config.jit_compile,
        devices=config.devices,
        hosts=hosts,
        schedule=config.schedule_settings,
    )


@dataclass(frozen=True)
class RecordBatches:
    """The batches of a stage that began at `first_step` (bertline.model.training.stage.Data)."""

    examples: Records
    batch_size: int
    seed: int
    first_step: int

    def batch_at(self, step: int, hosts: Hosts) -> dict[str, np.ndarray]:
        """This host's rows of the batch that follows `step` updates."""
        number = step - self.first_step
        return training_batch(self.examples, self.batch_size, self.seed, number, hosts.number, hosts.count)

    def examples_at(self, step: int) -> np.ndarray:
        """The numbers of the records of that batch."""
        return batch_indices(self.examples.bin_sizes, self.batch_size, self.seed, step - self.first_step)


def count_training(
    final: Checkpoint, log: TrainingLog, config: PretrainConfig, examples: Records, first_step: int
) -> dict[str, int | float]:
    """What was done since `first_step`, and the last row of the curve."""
    steps = final.state["step"] - first_step
    seen = steps * config.train_batch_size
    return {
        "step": final.state["step"],
        "steps": steps,
        "examples.seen": seen,
        "examples.distinct": len(examples),
        "epochs": round(seen / len(examples), 3),
        "parameters": parameter_count(final.bert_config),
        **{f"last.{name}": value for name, value in training_rows(log.rows)[-1].items() if name != "step"},
    }


def _new_update(config: PretrainConfig, shape: BertConfig) -> Update:
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.training.update import Objective, Update

    def losses(weights: Weights, batch: Mapping[str, Tensor], whole: Values, dropout: Dropout) -> Values:
        return pretraining_losses(weights, shape, batch, whole, dropout, config.recompute_layers)

    return Update(
        Objective(pretraining_whole, losses),
        config.schedule,
        config.rule,
        seed=config.seed,
        precision=config.precision,
        micro_batches=config.gradient_accumulation_steps,
    )


def _read_rows_before(checkpoint: Path | None) -> Sequence[Row]:
    """The curve of the stages before, so that the last checkpoint holds all of it."""
    path = None if checkpoint is None else checkpoint / LOG_FILE
    return rows_of(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else []
