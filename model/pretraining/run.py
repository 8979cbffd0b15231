"""Records -> a pretrained checkpoint: one stage of masked-LM and next-sentence training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bertline.model.config import BertConfig, parameter_count
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.evaluate import HeldoutScore
from bertline.model.pretraining.start import require_possible, schedule_of, start_of_stage
from bertline.model.records.reader import Records, batch_indices, open_records, require_vocabulary, training_batch
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.backends.hosts import ALONE, Hosts
from bertline.model.training.checkpoint import (
    LOG_FILE,
    Arrays,
    Checkpoint,
    Row,
    TrainingLog,
    digest_of,
    rows_of,
    training_rows,
)
from bertline.model.training.snapshots import Snapshots
from bertline.model.training.speed import StepWork, pretraining_work
from bertline.model.training.stage import Stage, Training, deciding_settings, restore
from bertline.progress import say

if TYPE_CHECKING:
    import numpy as np

    from bertline.model.bert import Dropout, Tensor, Weights
    from bertline.model.formats.loaded_model import LoadedModel
    from bertline.model.training.update import Update, Values


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
    best are written into `out/best` if they are not the last (training/snapshots.py). Snapshots go to `work`, which
    the caller deletes: the same call after a crash goes on from the newest, and (compiled by XLA) ends with the
    same bytes; it is refused where the `digests` of its input are others. TensorBoard events go to `log_dir`. Of
    several `hosts`, which all call this and read the same files, the first writes.
    Raises PreemptedError when SIGTERM came, after a snapshot.
    """
    use_backend(config.backend)
    opened = None if initial is None else initial()  # once the backend is chosen, for it loads Keras
    start = start_of_stage(vocab, checkpoint, opened, config)
    examples = open_records(records, config.max_seq_length, start.bert_config.vocab_size)
    require_possible(start, config, records, len(examples))
    held_out = _open_heldout(heldout, config, start.bert_config.vocab_size)
    for folder in (records, *([heldout] if heldout else [])):
        require_vocabulary(folder, start.vocabulary)
    lengths = ", ".join(map(str, examples.bin_widths))
    say(f"{records}: {len(examples):,} {examples.schema} examples of length {lengths}")
    identity = {
        **deciding_settings(config),
        **digests,
        "first_step": start.state["step"],
        "first_weights": digest_of(start.weights),
        "examples": len(examples),
        "heldout_examples": len(held_out or ()),
        "length_bins": dict(zip(map(str, examples.bin_widths), examples.bin_sizes)),
    }
    stage = new_stage(config, examples, held_out, start.bert_config, start.state["step"], identity, hosts)
    reached, log = restore(stage, config, start, work, _rows_before(checkpoint))
    snapshots = Snapshots(work, config.keep_checkpoints, config.keep_checkpoints_every_steps)
    training = Training(stage, reached, log, work, log_dir=log_dir, snapshots=snapshots)
    del start, reached, opened  # the training has copies of its own: these would be the model's size three times over
    final = training.run()
    scores = training.write(out, final)
    return {**training_counts(final, log, config, examples, stage.first_step), **scores}


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
        update=_update(config, shape),
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
        schedule=schedule_of(config),
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


def training_counts(
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


def _update(config: PretrainConfig, shape: BertConfig) -> Update:
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


def _open_heldout(folder: Path | None, config: PretrainConfig, vocab_size: int) -> Records | None:
    """The held-out records of a stage, if it has any; refused like records of training, and settings without them."""
    if folder is not None:
        return open_records(folder, config.max_seq_length, vocab_size)
    if config.eval_every_steps:
        raise ValueError(
            f"eval_every_steps is {config.eval_every_steps}, but no held-out records are given; "
            "give some (heldout), or leave it out"
        )
    return None


def _rows_before(checkpoint: Path | None) -> Sequence[Row]:
    """The curve of the stages before, so that the last checkpoint holds all of it."""
    path = None if checkpoint is None else checkpoint / LOG_FILE
    return rows_of(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else []
