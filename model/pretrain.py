"""Records -> a pretrained checkpoint: one stage of masked-LM and next-sentence training."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.backends.use import use_backend
from bertline.model.batches import training_batch
from bertline.model.checkpoints.best import write_best
from bertline.model.checkpoints.snapshots import newest_snapshot, save_snapshot
from bertline.model.checkpoints.state import Checkpoint, digest_of, read_checkpoint, write_checkpoint
from bertline.model.config import parameter_count
from bertline.model.flops import measured_peak, pretraining_work
from bertline.model.formats.opened import Opened
from bertline.model.heldout import HeldoutEvaluation, open_heldout
from bertline.model.preemption import PreemptedError, Preemption
from bertline.model.pretrain_config import PretrainConfig
from bertline.model.progress import say
from bertline.model.rates import Rates, with_prefix
from bertline.model.records import Records, open_records
from bertline.model.stage_start import (
    differences,
    first_stage,
    next_stage,
    refuse_impossible,
    released_model,
    schedule_of,
)
from bertline.model.training_log import TrainingLog, rows_of, training_rows

if TYPE_CHECKING:
    from bertline.model.backends.choice import Trainer
    from bertline.model.bert import Weights
    from bertline.model.dropout import Dropout
    from bertline.model.tensorboard import ScalarEvents
    from bertline.model.update import Batch, Values

LOG_FILE = "training_log.jsonl"


def run(
    records: Path,
    vocab: Path | None,
    out: Path,
    config: PretrainConfig,
    *,
    work: Path,
    checkpoint: Path | None = None,
    initial: Opened | None = None,
    heldout: Path | None = None,
    log_dir: Path | None = None,
) -> dict[str, int | float]:
    """Train one stage and write its checkpoint into `out`.

    `vocab` is a vocab.txt, or None where a model brings its own: `checkpoint`, the folder of the stage before,
    whose weights, Adam slots, step and log are carried over, or `initial`, a model of any format, whose weights
    start a schedule of their own. On the records `heldout`, weights are scored on the way and at the end; the best are
    written into `out/best` if they are not the last (bertline.model.checkpoints.best). Snapshots go to `work`, which
    is left to the caller: the same call after a crash goes on from the newest, and (compiled by XLA) ends with the
    same bytes. TensorBoard events go to `log_dir`.
    Raises PreemptedError when SIGTERM came, after a snapshot.
    """
    use_backend(config.backend)
    start = _start(vocab, checkpoint, initial, config)
    examples = open_records(records, config.max_seq_length, start.bert_config.vocab_size)
    refuse_impossible(start, config, records, len(examples))
    held_out = open_heldout(heldout, config, start.bert_config.vocab_size)
    lengths = ", ".join(map(str, examples.bin_widths))
    say(f"{records}: {len(examples):,} {examples.schema} examples of length {lengths}")
    stage = _Stage(config, examples, held_out, start.state["step"], first_weights=digest_of(start.weights))
    resumed = newest_snapshot(work, _read_snapshot)
    if resumed is None:
        reached, log = start, TrainingLog(config.log_every_steps, _rows_before(checkpoint))
    else:
        reached, log = resumed
        _refuse_other_run(work, reached.state["stage"], stage.identity())
    final = _train(stage, reached, log, work, log_dir)
    write_checkpoint(out, final)
    (out / LOG_FILE).write_text(log.to_lines(), encoding="utf-8")
    best = write_best(out, work, log.rows, stage.first_step) if held_out is not None else {}
    return _counts(stage, final, log) | best


def _start(vocab: Path | None, checkpoint: Path | None, initial: Opened | None, config: PretrainConfig) -> Checkpoint:
    if checkpoint is not None and initial is not None:
        raise ValueError("both the stage before (checkpoint) and a released model (initial) are given; give one")
    if config.initialize and initial is None:
        raise ValueError("initialize is for a released model (initial), and none is given; leave it away")
    if checkpoint is not None:
        return next_stage(checkpoint, vocab, config)
    return first_stage(vocab, config) if initial is None else released_model(initial, vocab, config)


@dataclass(frozen=True)
class _Stage:
    config: PretrainConfig
    examples: Records
    heldout: Records | None
    first_step: int  # updates done before this stage
    first_weights: str  # digest of the weights that it starts with

    def batch_at(self, step: int) -> dict[str, np.ndarray]:
        config = self.config
        return training_batch(self.examples, config.train_batch_size, config.seed, step - self.first_step)

    def identity(self) -> dict[str, Any]:
        """What decides every weight on the way, as JSON holds it."""
        fields = dataclasses.fields(self.config)
        settings = {f.name: getattr(self.config, f.name) for f in fields if not f.metadata.get("volatile")}
        return {
            **settings,
            "first_step": self.first_step,
            "first_weights": self.first_weights,
            "examples": len(self.examples),
            "heldout_examples": len(self.heldout or ()),
            "length_bins": dict(zip(map(str, self.examples.bin_widths), self.examples.bin_sizes)),
        }


def _train(stage: _Stage, reached: Checkpoint, log: TrainingLog, work: Path, log_dir: Path | None) -> Checkpoint:
    """Do the stage's remaining updates; `log` gets their rows."""
    from bertline.model.tensorboard import ScalarEvents
    from bertline.model.train import train

    config = stage.config
    trainer, rates = _trainer(reached, config), _rates(stage, reached)
    events = None if log_dir is None else ScalarEvents(log_dir)
    evaluation = _evaluation(stage, reached, trainer, log, work, events)

    def checkpoint_at(step: int) -> Checkpoint:
        state = {"step": step, "schedule": schedule_of(config)}
        return dataclasses.replace(reached, weights=trainer.weights(), slots=trainer.slots(), state=state)

    def after_update(step: int, metrics: dict[str, float]) -> None:
        row = log.add(step, metrics, last=step == config.last_step)
        if row is not None and events is not None:
            events.add(row | rates.row())
        if evaluation is not None:  # a machine that is taken away does not wait for it: the resumed run makes up for it
            evaluation.after(step, stopping=lambda: preemption.requested and step < config.last_step)
        if step < config.last_step and (preemption.requested or step % config.save_checkpoints_steps == 0):
            snapshot = checkpoint_at(step)
            save_snapshot(work, step, lambda folder: _write_snapshot(folder, snapshot, log, stage))
            if preemption.requested:
                raise PreemptedError(
                    f"ended at step {step} by SIGTERM, all of it saved; the same command goes on from there"
                )

    start, stop = reached.state["step"], config.last_step
    label = f"pretrain {config.max_seq_length}"
    with Preemption() as preemption:
        if evaluation is not None:
            evaluation.after(start)
        train(trainer, stage.batch_at, after_update, start_step=start, stop_step=stop, label=label, rates=rates)
    return checkpoint_at(stop)


def _trainer(reached: Checkpoint, config: PretrainConfig) -> "Trainer":
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.train import new_trainer
    from bertline.model.update import Objective, Update

    shape, recompute = reached.bert_config, config.recompute_layers

    def losses(weights: "Weights", part: "Batch", whole: "Values", dropout: "Dropout") -> "Values":
        return pretraining_losses(weights, shape, part, whole, dropout, recompute)

    update = Update(
        Objective(pretraining_whole, losses),
        config.schedule,
        config.rule,
        seed=config.seed,
        precision=config.precision,
        parts=config.gradient_accumulation_steps,
    )
    options: dict[str, Any] = {"jit_compile": config.jit_compile, "devices": config.devices}
    return new_trainer(reached.weights, reached.slots, update, **options)


def _evaluation(
    stage: _Stage,
    reached: Checkpoint,
    trainer: "Trainer",
    log: TrainingLog,
    work: Path,
    events: "ScalarEvents | None",
) -> "HeldoutEvaluation | None":
    if stage.heldout is None:
        return None
    return HeldoutEvaluation(stage.heldout, stage.config, reached, stage.first_step, trainer, log, work, events)


def _rates(stage: _Stage, reached: Checkpoint) -> Rates:
    """The meter of the stage's speed, against the measured peak of its devices."""
    config, examples = stage.config, stage.examples
    shape = config.train_batch_size, examples.max_seq_length, examples.max_predictions_per_seq
    peak = measured_peak(config.precision)
    say(f"peak: {with_prefix(peak)} FLOP/s, measured of matrix multiplications in {config.precision} on this device")
    return Rates(pretraining_work(reached.bert_config, *shape), config.devices * peak)


def _write_snapshot(folder: Path, checkpoint: Checkpoint, log: TrainingLog, stage: _Stage) -> None:
    state = {**checkpoint.state, "stage": stage.identity(), "pending": log.pending}
    write_checkpoint(folder, dataclasses.replace(checkpoint, state=state))
    (folder / LOG_FILE).write_text(log.to_lines(), encoding="utf-8")


def _read_snapshot(folder: Path) -> tuple[Checkpoint, TrainingLog]:
    checkpoint = read_checkpoint(folder, with_slots=True)
    rows = rows_of((folder / LOG_FILE).read_text(encoding="utf-8"))
    return checkpoint, TrainingLog(checkpoint.state["stage"]["log_every_steps"], rows, checkpoint.state["pending"])


def _rows_before(checkpoint: Path | None) -> list[dict[str, float]]:
    """The curve of the stages before, so that the last checkpoint holds all of it."""
    path = None if checkpoint is None else checkpoint / LOG_FILE
    return rows_of(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else []


def _refuse_other_run(work: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    if there != here:
        raise ValueError(
            f"{work} holds an interrupted run whose {differences(there, here)}; "
            "repeat that run's settings, or delete the folder to start afresh"
        )


def _counts(stage: _Stage, final: Checkpoint, log: TrainingLog) -> dict[str, int | float]:
    steps = final.state["step"] - stage.first_step
    examples = steps * stage.config.train_batch_size
    return {
        "step": final.state["step"],
        "steps": steps,
        "examples.seen": examples,
        "examples.distinct": len(stage.examples),
        "epochs": round(examples / len(stage.examples), 3),
        "parameters": parameter_count(final.bert_config),
        **{f"last.{name}": value for name, value in training_rows(log.rows)[-1].items() if name != "step"},
    }
