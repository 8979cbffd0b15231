"""The command line's verb run: flags and a file to the settings of a run, and those to a file."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bertline.pipelines.cli.verbs import (
    Flags,
    Parser,
    Verb,
    add_config_flags,
    describe_settings,
    expand_home,
    field_comments,
    read_config_file,
    restore_types_of_file,
)
from bertline.settings import restore_types

if TYPE_CHECKING:
    from bertline.pipelines.run_settings import Run

OLD_TASKS = {"pairs": "mrpc", "sentences": "sst2"}  # flags of their own once
SINGLE_STEPS = """\
--STEP.FIELD=VALUE, for example --prepare.masked_lm_prob=0.2, --pretrain.weight_decay=0.1 (both stages) or
--pretrain_512.train_batch_size=16 (one of them). In the file of --config: [prepare] masked_lm_prob = 0.2.
  STEP   {steps}
  FIELD  a setting of the step's verb: `bertline prepare --help` lists those of prepare and heldout
prepare reaches the held-out records, too, but for masking, dupe_factor and length_bins. Of several that say something
of one field the last counts: the settings above (file, then flags), [prepare], [heldout] and [prepare_128] in the file,
the flags --prepare., --heldout. and --prepare_128. What the run itself decides is refused with the reason."""


def _flags(parser: Parser) -> None:
    from bertline.pipelines.recipes import RECIPES
    from bertline.pipelines.run_settings import RUNS, Run
    from bertline.pipelines.step_settings import STEPS_OF_NAME, config_class_of_name

    names = [*sorted(RUNS), *RECIPES]
    parser.add_argument("name", choices=names, help="whose settings are the defaults: a run of the example's size, or "
                        "a recipe for --model (docs/recipes.md)")  # fmt: skip
    parser.add_argument("--out", default="out", metavar="DIR", help="folder of all artifacts (default: out)")
    parser.add_argument("--print_config", action="store_true", help="write all settings of the run as a TOML file to "
                        "standard output and do nothing else; --config with it runs the same")  # fmt: skip
    parser.add_argument("--task", action="append", metavar="TASK=DIR", help="to fine-tune on, mrpc (sentence pairs) or "
                        "sst2 (single sentences), in a folder with train.tsv and dev.tsv; one flag for each task, in "
                        "place of the example's (in the file: tasks, a list)")  # fmt: skip
    for old in OLD_TASKS:
        parser.add_argument(f"--{old}", help=argparse.SUPPRESS)
    add_config_flags(parser, Run)
    parser.add_argument_group("settings of single steps", SINGLE_STEPS.format(steps=" ".join(STEPS_OF_NAME)))
    for step in STEPS_OF_NAME:
        for setting in describe_settings(config_class_of_name(step)):
            one_word: dict[str, Any] = {"nargs": "?", "const": "true"} if setting.type is bool else {}
            parser.add_argument(f"--{step}.{setting.name}", help=argparse.SUPPRESS, **one_word)


def read_run(flags: Flags) -> "Run":
    """The settings of the run that the flags of `bertline run` ask for; ValueError for unknown and wrong ones."""
    from bertline.pipelines.recipes import named_run
    from bertline.pipelines.step_settings import read_flags, read_tables

    file = read_config_file(Path(flags.config)) if flags.config else {}
    tables = {name: value for name, value in file.items() if isinstance(value, Mapping)}
    single = {name: value for name, value in vars(flags).items() if value is not None and "." in name}
    given = _short_names(flags, {name: value for name, value in file.items() if name not in tables})
    run = named_run(flags.name, {name: value for name, value in given.items() if name not in OLD_TASKS})
    steps = (*read_tables(tables, flags.config or ""), *read_flags(single))
    return dataclasses.replace(run, tasks=_merge_tasks(given, run.tasks), steps=steps)


def _short_names(flags: Flags, file: Mapping[str, Any]) -> dict[str, Any]:
    """The short names that are given, flags over the file's."""
    from bertline.pipelines.run_settings import Run

    types = {name: wanted for name, wanted in get_type_hints(Run).items() if name != "steps"}
    types |= dict.fromkeys(OLD_TASKS, str)
    from_file = restore_types_of_file(flags.config, "run", types, {name: _at_home(file[name]) for name in file})
    given = {name: value for name, value in vars(flags).items() if name in types and value is not None}
    if flags.task is not None:
        given["tasks"] = [task for task in flags.task if task]  # --task= is for no task
    both = from_file | restore_types("run", types, given)
    _require_one_spelling(from_file)
    if flags.task is not None:
        _require_one_spelling(both)
    return both


def _at_home(value: Any) -> Any:
    """A value of a file of settings, paths with the user's home for "~"."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return expand_home(value) if isinstance(value, str) else value


def _require_one_spelling(settings: Mapping[str, Any]) -> None:
    """Refuse a task that is given in the old spelling and in today's."""
    for old, kind in OLD_TASKS.items():
        for task in settings.get("tasks", ()):
            if old in settings and task.startswith(f"{kind}="):
                raise ValueError(f"--{old}={settings[old]} and --task {task} are of one task; leave --{old} out")


def _merge_tasks(given: Mapping[str, Any], named: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks given, or those of the named run, and in them the folders given by the old flags."""
    tasks = list(given.get("tasks", named))
    for old, kind in OLD_TASKS.items():
        if old in given:
            print(f"--{old}={given[old]} is now --task {kind}={given[old]}", file=sys.stderr)
            place = next((at for at, task in enumerate(tasks) if task.startswith(f"{kind}=")), len(tasks))
            tasks[place : place + 1] = [f"{kind}={given[old]}"] if given[old] else []
    return tuple(tasks)


def format_config(name: str, run: "Run") -> Iterator[str]:
    """The lines of a TOML file of all settings; what follows from the short names is shown as a comment."""
    from bertline.pipelines.run_settings import Run, derive_settings, pipeline_arguments
    from bertline.pipelines.step_settings import DECIDED, RUN_STEPS, config_class, select_settings

    arguments, short = pipeline_arguments(run), derive_settings(run)
    yield f"# bertline run {name} --config FILE"
    for field, comment in field_comments(Run).items():
        if field != "steps":
            yield _line(field, getattr(run, field), comment)
    yield "\n# A line that begins with # follows from the settings above, or is decided by the run itself."
    for step in RUN_STEPS:
        yield f"\n[{step}]"
        given = select_settings(step, run.steps)
        for field, comment in field_comments(config_class(step)).items():
            follows = field not in given and (field in short[step] or field in DECIDED.get(step, {}))
            yield ("# " if follows else "") + _line(field, arguments[step][field], comment)


def _line(name: str, value: Any, comment: str) -> str:
    return f"{name} = {_toml(value)}{f'  # {comment}' if comment else ''}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")  # JSON's texts are TOML's, but for DEL
    return repr(value)


def _run(flags: Flags) -> int:
    from bertline.pipelines.run_local import require_settings, run_here

    run = read_run(flags)
    if flags.print_config:
        require_settings(run)
        print("\n".join(format_config(flags.name, run)))
        return 0
    return run_here(flags.name, run, Path(flags.out))


RUN = Verb(
    "the whole pipeline on this machine, from the dump to the scores",
    "bertline run tiny --dump enwiki-pages-articles.xml.bz2 --books shelf/ --vocab vocab.txt --out out",
    _flags,
    _run,
)
