"""Records -> a pretrained checkpoint: one stage of masked-LM and next-sentence training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bertline.model.attention_init import RANDOM
from bertline.model.config import parameter_count
from bertline.model.formats.loaded_model import Opened
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.heldout import open_heldout
from bertline.model.pretraining.stage import Stage, Training
from bertline.model.pretraining.stage_snapshots import LOG_FILE, read_snapshot, write_log
from bertline.model.pretraining.start import (
    differences,
    first_stage,
    next_stage,
    refuse_impossible,
    released_model,
)
from bertline.model.records.reader import open_records, require_vocabulary
from bertline.model.training.backends.hosts import ALONE, Hosts
from bertline.model.training.backends.use import use_backend
from bertline.model.training.best import write_best
from bertline.model.training.checkpoint import Checkpoint, digest_of, write_checkpoint
from bertline.model.training.curve import TrainingLog, rows_of, training_rows
from bertline.model.training.snapshots import newest_snapshot
from bertline.progress import say


def run(
    records: Path,
    vocab: Path | None,
    out: Path,
    config: PretrainConfig,
    *,
    work: Path,
    checkpoint: Path | None = None,
    initial: Callable[[], Opened] | None = None,
    heldout: Path | None = None,
    log_dir: Path | None = None,
    hosts: Hosts = ALONE,
    digests: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, int | float]:
    """Train one stage and write its checkpoint into `out`.

    `vocab` is a vocab.txt, or None where a model brings its own: `checkpoint`, the folder of the stage before,
    whose weights, Adam slots, step and log are carried over, or `initial`, which reads a model of any format, whose
    weights start a schedule of their own. On the records `heldout`, weights are scored on the way and at the end; the
    best are written into `out/best` if they are not the last (bertline.model.training.best). Snapshots go to `work`,
    which is left to the caller: the same call after a crash goes on from the newest, and (compiled by XLA) ends with
    the same bytes; it is refused where the `digests` of its input are others. TensorBoard events go to `log_dir`. Of
    several `hosts`, which all call this and read the same files, the first writes.
    Raises PreemptedError when SIGTERM came, after a snapshot.
    """
    use_backend(config.backend)
    opened = None if initial is None else initial()  # once the backend is chosen, for it loads Keras
    stage, reached, log = _begun(records, vocab, config, work, checkpoint, opened, heldout, hosts, digests)
    training = Training(stage, reached, log, work, log_dir)
    del reached, opened  # the training has copies of its own: these would be the model's size three times over
    final = training.run()
    counts = _counts(stage, final, log)
    if hosts.writes:
        write_checkpoint(out, final)
        write_log(out, log.to_lines())
        counts |= write_best(out, work, log.rows, stage.first_step) if stage.heldout is not None else {}
    return counts


def _begun(
    records: Path,
    vocab: Path | None,
    config: PretrainConfig,
    work: Path,
    checkpoint: Path | None,
    initial: Opened | None,
    heldout: Path | None,
    hosts: Hosts,
    digests: Mapping[str, Any],
) -> tuple[Stage, Checkpoint, TrainingLog]:
    """The stage, and what was reached of it, with its log; whatever cannot be trained is refused here."""
    start = _start(vocab, checkpoint, initial, config)
    examples = open_records(records, config.max_seq_length, start.bert_config.vocab_size)
    refuse_impossible(start, config, records, len(examples))
    held_out = open_heldout(heldout, config, start.bert_config.vocab_size)
    for folder in (records, *([heldout] if heldout else [])):
        require_vocabulary(folder, start.vocabulary)
    lengths = ", ".join(map(str, examples.bin_widths))
    say(f"{records}: {len(examples):,} {examples.schema} examples of length {lengths}")
    stage = Stage(config, examples, held_out, start.state["step"], digest_of(start.weights), digests, hosts)
    resumed = newest_snapshot(work, read_snapshot)
    hosts.agree({"the step that training goes on from": (start if resumed is None else resumed[0]).state["step"]})
    if resumed is None:
        return stage, start, TrainingLog(config.log_every_steps, _rows_before(checkpoint))
    reached, log = resumed
    _refuse_other_run(work, reached.state["stage"], stage.identity())
    return stage, reached, log


def _start(vocab: Path | None, checkpoint: Path | None, initial: Opened | None, config: PretrainConfig) -> Checkpoint:
    if checkpoint is not None and initial is not None:
        raise ValueError("both the stage before (checkpoint) and a released model (initial) are given; give one")
    if config.initialize and initial is None:
        raise ValueError("initialize is for a released model (initial), and none is given; leave it away")
    if config.attention_initializer != RANDOM and initial is not None:
        raise ValueError("attention_initializer is for fresh weights, not for a released model's; leave it away")
    if checkpoint is not None:
        return next_stage(checkpoint, vocab, config)
    return first_stage(vocab, config) if initial is None else released_model(initial, vocab, config)


def _rows_before(checkpoint: Path | None) -> list[dict[str, float]]:
    """The curve of the stages before, so that the last checkpoint holds all of it."""
    path = None if checkpoint is None else checkpoint / LOG_FILE
    return rows_of(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else []


def _refuse_other_run(work: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    there, here = dict(there), dict(here)
    _refuse_other_code(work, there.pop("code", None), here.pop("code", None))
    if there != here:
        unknown = sorted(here.keys() - there.keys())  # to the version that wrote it
        found = there | dict.fromkeys(unknown)
        raise ValueError(
            f"{work} holds an interrupted run whose {differences(found, here)}; "
            "repeat that run with its settings and input, or delete the folder to start afresh"
        )


def _refuse_other_code(work: Path, there: dict[str, Any] | None, here: dict[str, Any] | None) -> None:
    """Refuse a snapshot of code that decides weights otherwise, and say which modules have changed."""
    if here is None:
        return
    if there is None:
        say(f"{work}: the snapshot does not say which code began it; training goes on with this version")
    elif there["fingerprint"] != here["fingerprint"]:
        modules = there["modules"].keys() | here["modules"].keys()
        changed = sorted(name for name in modules if there["modules"].get(name) != here["modules"].get(name))
        raise ValueError(
            f"{work} holds an interrupted run of other code: {', '.join(changed) or 'what its modules use'} changed "
            "since; go on with the version that began it, or delete the folder to start afresh"
        )


def _counts(stage: Stage, final: Checkpoint, log: TrainingLog) -> dict[str, int | float]:
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
