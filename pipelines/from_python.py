"""`bertline.run`: the whole pipeline from Python."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from bertline.components.store.manifests import read_manifest
from bertline.pipelines.cli.verbs import expand_home
from bertline.pipelines.recipes import named_run
from bertline.pipelines.run_local import Ended, carry_out
from bertline.pipelines.run_settings import TEXT_SOURCES, Run
from bertline.pipelines.step_settings import STEPS_OF_NAME, read_tables
from bertline.pipelines.verdict import Verdict, judge
from bertline.preemption import INTERRUPTED, PreemptedError
from bertline.settings import restore_types

MODEL, EXPORT = "pretrain_512", "export"  # the tasks that make what most users want


@dataclass(frozen=True, repr=False)
class RunResult:
    """What a run made or found made."""

    artifacts: dict[str, Path]  # task (pretrain_128, finetune_mrpc, ...) -> its folder
    scores: dict[str, dict[str, float]]  # evaluation or fine-tuning -> its scores, as `bertline run` prints them
    lineage: Path  # the page that shows what was made from what
    log: Path  # what all tasks printed
    seconds: float

    @property
    def model(self) -> Path:
        """The checkpoint at the end of pretraining, for `load_model`."""
        return self.artifacts[MODEL]

    @property
    def verdicts(self) -> list[Verdict]:
        """The main scores, each beside what knows nothing of the text's order: better or worse."""
        return judge(self.artifacts)

    @property
    def export(self) -> Path:
        """The exported model: a Hugging Face folder, where the run does not say otherwise."""
        return self.artifacts[EXPORT]

    def __repr__(self) -> str:
        return (
            f"<RunResult of {len(self.artifacts)} steps in {self.seconds / 60:.1f} minutes: model {self.model}, "
            f"export {self.export}, scores of {', '.join(self.scores)}>"
        )


def run(name: str, out: str | os.PathLike[str] = "out", **settings: Any) -> RunResult:
    """Carry out the pipeline on this machine, as `bertline run NAME --out OUT` does.

    `name` is a run of the example's size (tiny, base) or a recipe (paper, budget). `settings` are those that `bertline
    run --help` lists, such as `dump` and `books` (paths, or lists of them), `tasks` ({"mrpc": folder}) and `steps_128`;
    and those of single steps by the step's name, as in the file of --config: `pretrain={"weight_decay": 0.1}`. So
    `run(name, **tomllib.load(file))` takes such a file. Steps that were made before are kept.

    Raises ValueError and OSError for what a step refuses, before the first one where it can be seen; RuntimeError
    that names the log where one broke; KeyboardInterrupt for Ctrl-C, and PreemptedError for SIGTERM and SIGHUP: the
    same call goes on from there.
    """
    try:
        ended = carry_out(name, choose_run(name, settings), expand_home(os.fspath(out)))
    except PreemptedError as error:
        if error.exit_code == INTERRUPTED:
            raise KeyboardInterrupt(str(error)) from None
        raise
    if ended.failure is None:
        return _collect(ended)
    if ended.refusals:
        raise ValueError("; ".join(ended.refusals)) from ended.failure
    raise RuntimeError(f"{ended.failure}; the whole story is in {ended.log}") from ended.failure


def choose_run(name: str, settings: Mapping[str, Any]) -> Run:
    """The run of that name with these settings; ValueError for unknown and wrong ones."""
    types = {field: wanted for field, wanted in get_type_hints(Run).items() if field != "steps"}
    tables = {step: value for step, value in settings.items() if isinstance(value, Mapping) and step != "tasks"}
    short = {field: _as_setting(field, value) for field, value in settings.items() if field not in tables}
    for step in STEPS_OF_NAME:
        if step in short and step not in types:
            raise ValueError(f'{step} is {short[step]!r}; give the settings of that step: {step}={{"seed": 1}}')
    chosen = named_run(name, restore_types("run", types, short, typed=True))
    return replace(chosen, steps=tuple(read_tables(tables, "run", typed=True)))


def _as_setting(field: str, value: Any) -> Any:
    """Paths as texts, "~" replaced, several sources of text as one text, tasks as a list of texts."""
    if isinstance(value, str | os.PathLike):
        return expand_home(os.fspath(value))
    if field == "tasks" and isinstance(value, Mapping):
        value = [f"{task}={os.fspath(folder)}" for task, folder in value.items()]
    if field in TEXT_SOURCES and isinstance(value, Iterable):
        return expand_home(",".join(os.fspath(each) for each in value))
    if isinstance(value, list | tuple):
        return [expand_home(each) if isinstance(each, str) else each for each in value]
    return value


def _collect(ended: Ended) -> RunResult:
    artifacts = ended.artifacts
    ended.store.fetch(artifacts.values())
    scores = {
        note["task"]: read_manifest(artifacts[note["task"]])["counts"]
        for note in ended.notes
        if note["kind"] == "scores" or note["kind"].startswith("finetuned")
    }
    return RunResult(artifacts, scores, ended.folder / "lineage.html", ended.log, ended.seconds)
