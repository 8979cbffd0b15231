"""The pipeline in this process, by kfp.local: every task a child process, its chatter kept in a log."""

import datetime
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from bertline.components.kfp_artifacts import BAD_INPUT, STEPS_VARIABLE, read_run_notes
from bertline.components.run_process import RUN_PROCESS_VARIABLE, RunPreemption, no_task_after
from bertline.components.store.artifacts import Store
from bertline.components.store.folder import store_below
from bertline.components.store.inputs import bring
from bertline.components.store.refs import LATEST, read_history
from bertline.components.store.remote import open_store
from bertline.components.tasks.classification import read_examples
from bertline.model.attention_init import RANDOM
from bertline.model.config import bert_config
from bertline.model.formats.detect import list_model_files
from bertline.pipelines.cli.tables import print_steps, print_text, print_verdicts
from bertline.pipelines.latest import find_shown_place, link_latest
from bertline.pipelines.platforms import LOCAL
from bertline.pipelines.pretraining import build_pipeline
from bertline.pipelines.recipes import OF_EXAMPLE
from bertline.pipelines.run_settings import TEXT_SOURCES, Run, pipeline_arguments
from bertline.pipelines.step_settings import (
    RECORDS,
    RUN_STEPS,
    STAGES,
    config_class,
    require_agreement,
    require_one_host,
    select_settings,
)
from bertline.pipelines.verdict import PUBLISHED, advise, judge
from bertline.preemption import PreemptedError, ended_by_signals
from bertline.progress import MARK_VARIABLE, TERMINAL_VARIABLE, erase_progress, say, write_line
from bertline.settings import BACKEND_VARIABLE, BACKENDS, from_mapping
from bertline.tokenizer.wordpiece import load_vocabulary

MARK = "\x1ebertline "  # a control character that no library prints


@dataclass(frozen=True)
class Ended:
    """What came of a run."""

    store: Store
    notes: list[dict[str, Any]]  # of its tasks, in the pipeline's order
    failure: BaseException | None  # where a task failed
    folder: Path  # of the notes, the log and the lineage page
    seconds: float

    @property
    def log(self) -> Path:
        """What all tasks printed."""
        return self.folder / "log.txt"

    @property
    def artifacts(self) -> dict[str, Path]:
        """Task -> the folder of what it made or found made, on this machine."""
        return {note["task"]: self.store.folder_of(note["path"]) for note in self.notes if "path" in note}

    @property
    def refusals(self) -> list[str]:
        """Which tasks refused their inputs, and why; where there is none, a task broke."""
        return [f"{note['task']}: {note['error']}" for note in self.notes if "error" in note]


def describe_kept() -> str:
    """What the same command finds after a signal."""
    return "finished steps are kept, with what the one at work has saved; the same command goes on from there"


@ended_by_signals(describe_kept=describe_kept)
def run_here(name: str, run: Run, out: str) -> int:
    """`carry_out`, with a summary at the end; returns the exit code."""
    ended = carry_out(name, run, out)
    if ended.failure is not None:
        return _report_failure(ended, ended.failure)
    _print_summary(name, run, ended, out)
    return 0


@ended_by_signals(describe_kept=describe_kept)
def carry_out(name: str, run: Run, out: str) -> Ended:
    """Carry out `run` below `out`, a folder or a gs:// uri: this machine computes, and its results lie there.

    The same run again finds its finished steps in `out/store` and goes on after them. Bad input is
    refused before the first step where it can be seen from here. Raises PreemptedError where a signal ended it.
    """
    check(run, out)
    run_name = f"{name}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    place = store_below(out)
    store = open_store(place)
    notes_folder = store.root / "runs" / run_name
    notes_folder.mkdir(parents=True, exist_ok=True)
    log = notes_folder / "log.txt"
    say(f"run {run_name}: artifacts in {place}, log in {log}")
    started = time.monotonic()
    pipeline_root = store.root.with_name("kfp")
    failure = _execute(pipeline_arguments(run) | {"store": place, "run": run_name}, pipeline_root, log)
    notes = sorted(read_run_notes(store.objects, run_name), key=lambda note: (_place_in_pipeline(note), note["task"]))
    ended = Ended(store, notes, failure, notes_folder, time.monotonic() - started)
    store.share_note(f"runs/{run_name}/log.txt")
    if failure is None:
        link_latest(store, read_history(store.objects, LATEST)[-1])
    return ended


def check(run: Run, out: str | Path) -> None:
    """Refuse what would only fail hours later: settings, sources, vocabulary or output that cannot be."""
    from bertline.components.corpus.ingest.run import list_source_files
    from bertline.components.pretraining_data.prepare import require_usable

    require_settings(run)
    for library in ("tensorflow", "keras"):
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"no {library}, which training needs", name=library)
    arguments = pipeline_arguments(run)
    require_one_host(arguments)
    list_source_files(**{name: bring(arguments[name]) for name in TEXT_SOURCES})
    if run.initial:
        list_model_files(Path(bring(run.initial)))
    if run.vocab:
        vocabulary = load_vocabulary(Path(bring(run.vocab)))
        for step in RECORDS:
            require_usable(vocabulary, from_mapping(config_class(step), arguments[step]))
        if not run.initial:
            bert_config(run.model, len(vocabulary))
    for task in arguments["tasks"]:
        for part in ("train", "dev"):
            read_examples(task["kind"], Path(bring(task[part])))
    open_store(store_below(str(out))).require_writable()


def require_settings(run: Run) -> None:
    """Refuse settings that cannot be, or not together; texts, vocabularies, released models and tasks are not read."""
    arguments = pipeline_arguments(run)
    _require_valid_steps(run, arguments)
    require_agreement(arguments)
    _require_one_start(run, arguments["pretrain_128"])
    _require_shared_batches(arguments)
    if run.vocab:
        return
    if run.initial:
        raise ValueError(f"{run.initial}: the records need its vocabulary: --vocab (make: VOCAB=)")
    if Path(run.model).is_file():
        raise ValueError(f"{run.model}: a model's own configuration needs its own vocabulary: --vocab (make: VOCAB=)")
    bert_config(run.model, arguments["vocabulary"]["vocab_size"])


def _require_valid_steps(run: Run, arguments: dict[str, Any]) -> None:
    """Refuse settings that a step would refuse; the message names those that were given for the step itself."""
    for step in RUN_STEPS:
        try:
            from_mapping(config_class(step), arguments[step])
        except ValueError as error:
            own = select_settings(step, run.steps)
            named = [own[field].origin for field in own if re.search(rf"\b{field}\b", str(error))]
            raise ValueError(f"{step}: {error}" + (f" ({', '.join(named)})" if named else "")) from error


def _require_one_start(run: Run, stage: dict[str, Any]) -> None:
    """Refuse settings of fresh weights for a released model, and the other way round."""
    if run.initial and stage["attention_initializer"] != RANDOM:
        raise ValueError("attention_initializer is for fresh weights, not for a released model's; leave it out")
    if stage["initialize"] and not run.initial:
        raise ValueError("initialize is for a released model (initial), and none is given; leave it out")


def _require_shared_batches(arguments: dict[str, Any]) -> None:
    """Refuse several devices on a backend that uses one."""
    for stage in STAGES:
        devices, backend = arguments[stage]["devices"], arguments[stage]["backend"]
        if devices > 1 and (backend or os.environ.get(BACKEND_VARIABLE, BACKENDS[0])) == BACKENDS[0]:
            raise ValueError(
                f"{stage}: devices is {devices}; several devices share a batch on the jax backend only: --backend=jax"
            )


def _execute(arguments: dict[str, Any], pipeline_root: Path, log: Path) -> BaseException | None:
    from kfp import local

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(pipeline_root))
    pipeline = build_pipeline(LOCAL)
    steps = count_steps(pipeline, len(arguments["tasks"]))
    with log.open("a", encoding="utf-8") as file, RunPreemption(log.parent) as preemption, _join_steps(file, steps):
        failure: BaseException | None = None
        try:
            with no_task_after(preemption):
                pipeline(**arguments)
        except (RuntimeError, PreemptedError) as error:  # the first is kfp.local's word for a task that failed
            failure = error
        if preemption.is_ending():
            preemption.wait_for_steps()
            raise PreemptedError(f"ended by {preemption.cause}; {describe_kept()}") from None
        return failure


def count_steps(pipeline: Any, tasks: int) -> int:
    """How many steps a run of the graph has: its nodes that make artifacts, and for the loop one for each task."""
    nodes = pipeline.pipeline_spec.root.dag.tasks
    return sum(name not in ("draw-lineage", "promote", "for-loop-1") for name in nodes) + tasks


class _LineFilter:
    """A stream that logs all it is given and passes on the lines marked as meant for the user."""

    def __init__(self, log: TextIO, shown: TextIO) -> None:
        self.log, self.shown, self.rest = log, shown, ""

    def write(self, text: str) -> int:
        self.log.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _, mark, message = line.partition(MARK)
            if mark:
                write_line(message, self.shown)
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def isatty(self) -> bool:
        return False


@contextmanager
def _join_steps(log: TextIO, steps: int) -> Iterator[None]:
    """The run's `steps` write for the user on the terminal itself, mark their lines without one, and end with it."""
    variables = {MARK_VARIABLE: MARK, RUN_PROCESS_VARIABLE: str(os.getpid()), STEPS_VARIABLE: str(steps)}
    with suppress(OSError):  # no terminal, or one that has no name here
        variables[TERMINAL_VARIABLE] = os.ttyname(sys.stderr.fileno())
    os.environ.update(variables)
    try:
        with redirect_stdout(_LineFilter(log, sys.stderr)):  # type: ignore[type-var]
            yield
    finally:
        for name in variables:
            del os.environ[name]
        erase_progress()


def _report_failure(ended: Ended, failure: BaseException) -> int:
    """BAD_INPUT when a step refused its input (it has said why), 1 when one broke."""
    for refusal in ended.refusals:
        say(f"bertline run: error: {refusal}")
    if ended.refusals:
        return BAD_INPUT
    say(f"bertline run: {failure}\nThe whole story is in {ended.log}")
    return 1


def _place_in_pipeline(note: dict[str, Any]) -> int:
    """Of a run's task, named by its step, with a length or a task to fine-tune on behind it for some."""
    task = note["task"]
    return next((place for place, step in enumerate(RUN_STEPS) if f"{task}_".startswith(f"{step}_")), len(RUN_STEPS))


def _print_summary(name: str, run: Run, ended: Ended, out: str) -> None:
    print_steps(ended.notes)
    artifacts = ended.artifacts
    ended.store.fetch(folder for task, folder in artifacts.items() if task.startswith("heldout"))
    verdicts = judge(artifacts)
    print_verdicts(verdicts, PUBLISHED)
    print(f"\nwhole run: {ended.seconds / 60:.1f} minutes")
    for title, task in (("model", "pretrain_512"), ("export", "export")):
        print(f"{title:20} {find_shown_place(ended.store, task, artifacts[task])}")
    print(f"{'lineage page':20} {ended.folder / 'lineage.html'}")
    print(f"{'TensorBoard':20} {describe_tensorboard(ended.store.root)}")
    is_example, program = run.dump == OF_EXAMPLE["dump"], find_program()
    for advice in advise(verdicts, name=name, is_example=is_example, out=Path(out), program=program):
        print_text(f"next: {advice}")


def find_program() -> str:
    """How this program is called from here: by its name, or by its path where no PATH leads to it."""
    path = Path(sys.executable).with_name("bertline")
    if shutil.which("bertline") is not None or not path.is_file():
        return "bertline"
    return shlex.quote(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))


def describe_tensorboard(folder: Path) -> str:
    """The command that shows the curves of the trainings below a folder, and what it needs first."""
    python = shlex.quote(sys.executable)
    command = f"{python} -m tensorboard.main --logdir {shlex.quote(str(folder))}"
    return command if find_spec("tensorboard") else f"{python} -m pip install tensorboard, then {command}"
