"""google-research/bert's run_pretraining.py: record files -> TF1 checkpoints in output_dir, and scores.

Everything that decides a weight is a function of (seed, step), so that model.ckpt-N is all that an interrupted
run needs to go on to the same bytes.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertline.files import write_whole
from bertline.model.config import BertConfig
from bertline.model.formats.tf1.checkpoint import STEP
from bertline.model.formats.tf1.config import read_config
from bertline.model.formats.tf1.folder import BESIDE, checkpoint_name, find_checkpoints, save_numbered
from bertline.model.formats.tf1.variables import write_variables
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.evaluate import RESULTS, Scores, format_results, score_model
from bertline.model.pretraining.google_config import RunPretrainingConfig
from bertline.model.pretraining.google_start import Start, find_start
from bertline.model.pretraining.run import count_training, new_stage, require_possible
from bertline.model.records.masking import MASKING_FILE
from bertline.model.records.reader import Records
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.checkpoint import (
    BERT_CONFIG_FILE,
    LOG_FILE,
    VOCABULARY_FILE,
    Checkpoint,
    ScalarEvents,
    TrainingLog,
    rows_of,
)
from bertline.model.training.snapshots import Snapshots
from bertline.model.training.stage import Training
from bertline.preemption import ended_by_signals, held
from bertline.progress import say
from bertline.settings import describe_differences, list_settings, require_length
from bertline.tokenizer.wordpiece import load_vocabulary

EVAL_FILE, EVAL_FOLDER = "eval_results.txt", "eval"  # the latter holds TensorBoard's events of the scores


@dataclass(frozen=True)
class Files:
    """What the flags name."""

    input_files: list[Path]  # records, in the order in which evaluation reads them
    bert_config_file: Path
    output_dir: Path
    init_checkpoint: Path | None = None
    vocab_file: Path | None = None  # training does not read it; kept with the checkpoints


def run(files: Files, config: RunPretrainingConfig, settings: PretrainConfig) -> dict[str, int | float]:
    """Train and score as `config` asks; returns the counts of training, or the scores where they were asked for.

    Training goes on from the newest checkpoint in output_dir, which wins over init_checkpoint. Raises ValueError and
    FileNotFoundError before the first step, PreemptedError when a signal came.
    """
    with ended_by_signals(describe_kept=lambda: _describe_kept(files.output_dir)):
        return _run(files, config, settings)


def _run(files: Files, config: RunPretrainingConfig, settings: PretrainConfig) -> dict[str, int | float]:
    use_backend(settings.backend)
    shape = read_config(files.bert_config_file).bert_config
    shape_text = files.bert_config_file.read_text(encoding="utf-8")
    require_length(settings.max_seq_length, shape.max_position_embeddings)
    vocabulary = _read_vocabulary(files, shape)
    examples = _open_examples(files.input_files, settings.max_seq_length, config.max_predictions_per_seq, shape)
    start = find_start(files.output_dir, files.init_checkpoint, shape, settings.seed, fresh=config.do_train)
    counts: dict[str, int | float] = {}
    checkpoint = start.checkpoint
    if config.do_train:
        training = _Training(files, settings, examples, start, shape_text, vocabulary)
        checkpoint, counts = _train(training)
    if config.do_eval:
        scores = score_model(checkpoint, examples, config.evaluate_config(settings))
        _write_scores(files.output_dir, scores)
        counts |= scores
    return counts


def _describe_kept(output_dir: Path) -> str:
    """What the same command finds after a signal."""
    newest = find_checkpoints(output_dir)[:1]
    return f"the same command goes on from {newest[0]}" if newest else "the same command begins at the start"


@dataclass(frozen=True)
class _Training:
    files: Files
    config: PretrainConfig
    examples: Records
    start: Start
    shape: str  # the text of the bert_config.json
    vocabulary: bytes | None

    def settings(self) -> dict[str, Any]:
        """What decides every weight on the way, as JSON holds it."""
        settings = list_settings(self.config)
        return {**settings, **dataclasses.asdict(self.start.checkpoint.bert_config), "examples": len(self.examples)}


def _train(training: _Training) -> tuple[Checkpoint, dict[str, int | float]]:
    """The model at num_train_steps, all of it saved."""
    start, config, output_dir = training.start, training.config, training.files.output_dir
    first_step = start.checkpoint.state["step"]
    if first_step >= config.last_step:
        say(f"{start.where} is at step {first_step}, num_train_steps is {config.last_step}: nothing is left to train")
        return start.checkpoint, {"step": first_step, "steps": 0}
    if start.where is not None:
        _say_how_it_goes_on(training)
    require_possible(start.checkpoint, config, _name_files(training.files.input_files), len(training.examples))
    if start.checkpoint.slots is None and start.where is not None:
        raise ValueError(
            f"{start.where}: holds no Adam slots, without which its training cannot go on; give it as init_checkpoint, "
            "with another output_dir"
        )
    log = TrainingLog(config.log_every_steps, _read_rows(output_dir, first_step), start.beside.get("pending", ()))

    def writer(checkpoint: Checkpoint, log: TrainingLog, identity: Mapping[str, Any]) -> Callable[[Path], None]:
        return _make_writer(training, checkpoint, log)

    def put(step: int, write: Callable[[Path], None]) -> None:
        save_numbered(output_dir, step, write)

    # Batches are numbered from step 0, in output_dir's first run and in those that go on.
    stage = new_stage(
        config, training.examples, None, start.checkpoint.bert_config, first_step=0, identity=training.settings()
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        snapshots = Snapshots(output_dir, save=put)
        # output_dir gets TensorBoard's events, too, and the batch of a step that diverged.
        final = Training(
            stage, start.checkpoint, log, output_dir, log_dir=output_dir, snapshots=snapshots, writer=writer
        ).run()
        with held(checkpoint_name(final.state["step"])):
            put(final.state["step"], _make_writer(training, final, log))
    finally:
        with contextlib.suppress(OSError):
            output_dir.rmdir()  # if nothing came of it
    return final, count_training(final, log, config, training.examples, first_step)


def _say_how_it_goes_on(training: _Training) -> None:
    """That output_dir's checkpoint wins, and in what this run differs from the one that wrote it."""
    start = training.start
    say(f"{start.where}: training goes on from its step {start.checkpoint.state['step']}, with its weights and slots")
    if training.files.init_checkpoint is not None:
        say(f"{training.files.init_checkpoint}: not read, {training.files.output_dir} holds a checkpoint already")
    other = describe_differences(start.beside.get("settings", {}), training.settings())
    if other:
        say(f"{start.where}: {other}")


def _open_examples(paths: list[Path], max_seq_length: int, max_predictions_per_seq: int, shape: BertConfig) -> Records:
    """The records of all files; ValueError for another length or number of predictions than the flags say."""
    examples = Records(paths, vocab_size=shape.vocab_size, masking=paths[0].parent / MASKING_FILE)
    wanted = {"max_seq_length": max_seq_length, "max_predictions_per_seq": max_predictions_per_seq}
    for name, said in wanted.items():
        there = getattr(examples, name)
        if there != said:
            raise ValueError(
                f"{_name_files(paths)}: {name} is {there}, the flag says {said}; give --{name}={there}, or make the "
                "records again"
            )
    say(f"{_name_files(paths)}: {len(examples):,} {examples.schema} examples of length {examples.max_seq_length}")
    return examples


def _name_files(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _read_vocabulary(files: Files, shape: BertConfig) -> bytes | None:
    """The vocabulary to keep with the checkpoints; one beside the configuration only if it is this model's."""
    path = files.vocab_file or files.bert_config_file.with_name(VOCABULARY_FILE)
    if files.vocab_file is None and not path.is_file():
        return None
    entries = len(load_vocabulary(path))
    if entries != shape.vocab_size:
        text = f"{path} has {entries:,} entries, but vocab_size in {files.bert_config_file} is {shape.vocab_size:,}"
        if files.vocab_file is not None:
            raise ValueError(f"{text}; take the vocabulary that belongs to this configuration, or leave it out")
        say(f"{text}; it is not copied into {files.output_dir}")
        return None
    return path.read_bytes()


def _make_writer(training: _Training, checkpoint: Checkpoint, log: TrainingLog) -> Callable[[Path], None]:
    """A function that writes model.ckpt-N into a folder, with what its training needs to go on, all as it is now.

    The log, and the configuration for readers, are written into output_dir.
    """
    output_dir, step = training.files.output_dir, checkpoint.state["step"]
    assert checkpoint.slots is not None
    arrays = {**checkpoint.weights, **checkpoint.slots, STEP: np.array(step, np.int64)}
    beside = json.dumps({"settings": training.settings(), "pending": log.pending}, sort_keys=True) + "\n"
    lines = log.to_lines()

    def write(folder: Path) -> None:
        write_whole(output_dir / BERT_CONFIG_FILE, training.shape)
        if training.vocabulary is not None:
            write_whole(output_dir / VOCABULARY_FILE, training.vocabulary.decode("utf-8"))
        write_whole(output_dir / LOG_FILE, lines)
        prefix = folder / checkpoint_name(step)
        write_variables(prefix, arrays)
        prefix.with_name(prefix.name + BESIDE).write_text(beside, encoding="utf-8")

    return write


def _read_rows(output_dir: Path, step: int) -> list[dict[str, float]]:
    """The curve up to the checkpoint that training goes on from."""
    path = output_dir / LOG_FILE
    rows = rows_of(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [row for row in rows if row["step"] <= step]


def _write_scores(output_dir: Path, scores: Scores) -> None:
    """The original's file, and the same numbers as TensorBoard's events."""
    output_dir.mkdir(parents=True, exist_ok=True)
    write_whole(output_dir / EVAL_FILE, format_results(scores))
    point = {name: float(scores[name]) for name in RESULTS if name != STEP}
    ScalarEvents(output_dir / EVAL_FOLDER).add({"step": scores[STEP], **point})
