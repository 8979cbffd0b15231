"""The command line's verb run: flags and a file to the settings of a run, and those to a file."""

import argparse
import dataclasses
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bertline.pipelines.cli.settings_file import is_typed, read_config_file, restore_types_of_file
from bertline.pipelines.cli.verbs import (
    FieldText,
    FlagParser,
    Flags,
    Parser,
    Verb,
    add_setting_flags,
    as_sentence,
    describe_settings,
    expand_home,
    read_field_texts,
    show_value,
)
from bertline.settings import restore_types

if TYPE_CHECKING:
    from bertline.pipelines.run_settings import Run

OLD_TASKS = {"pairs": "mrpc", "sentences": "sst2"}  # flags of their own once
WITH_OWN_TEXT = "with text of your own"
BY_NAME = "that of NAME"  # in place of a default in `bertline run --help`
SINGLE_STEPS = """\
--STEP.FIELD=VALUE, for example --prepare.masked_lm_prob=0.2, --pretrain.weight_decay=0.1 (both stages) or \
--pretrain_512.train_batch_size=16 (one of them). In the file of --config: [prepare] masked_lm_prob = 0.2.
STEP is one of {steps}.
FIELD is a setting of the step's verb: `bertline prepare --help` lists those of prepare and heldout.
prepare reaches the held-out records, too, but for masking, dupe_factor and length_bins. Of several that say something \
of one field the last counts: the settings above (file, then flags), [prepare], [heldout] and [prepare_128] in the \
file, the flags --prepare., --heldout. and --prepare_128. What the run itself decides is refused with the reason."""
ON_CLUSTERS = "resources"  # the table, and the flags, of what tasks are given there
WIDTH = 100  # of the comments in a file of settings


def _flags(parser: Parser) -> None:
    group = add_run_flags(parser)
    group.add_argument(
        "--out", default="out", metavar="DIR", help="The folder of all artifacts, or gs://BUCKET/FOLDER (default: out)."
    )
    group.add_argument("--print_config", action="store_true", help="Write all settings of the run as a TOML file to "
                       "standard output and do nothing else; --config with it runs the same.")  # fmt: skip


def add_run_flags(parser: Parser) -> Any:
    """The name and the settings of a run; returns the first group, of what is run."""
    from bertline.pipelines.recipes import RECIPES, RUNS
    from bertline.pipelines.run_settings import Run
    from bertline.pipelines.step_settings import STEPS_OF_NAME, config_class_of_name

    group = parser.add_argument_group("what is run")
    group.add_argument("name", choices=[*sorted(RUNS), *RECIPES], metavar="NAME", help="Whose settings are the "
                       f"defaults: {', '.join(sorted(RUNS))}, runs of the example's size, or {' or '.join(RECIPES)}, "
                       "recipes for --model (docs/recipes.md). `bertline run tiny --help` shows the defaults of tiny, "
                       "`bertline run budget --model small --help` those of the recipe for a model.")  # fmt: skip
    groups = add_setting_flags(parser, describe_settings(Run))
    groups["fine-tuning"].add_argument("--task", action="append", metavar="TASK=DIR", help="A task to fine-tune on, "
                       "mrpc (sentence pairs) or sst2 (single sentences), in a folder with train.tsv and dev.tsv; one "
                       "flag for each task, in place of the example's (in the file: tasks, a list).")  # fmt: skip
    for old in OLD_TASKS:
        parser.add_argument(f"--{old}", help=argparse.SUPPRESS)
    parser.add_argument_group("settings of single steps", SINGLE_STEPS.format(steps=", ".join(STEPS_OF_NAME)))
    for step in STEPS_OF_NAME:
        for name, kind in get_type_hints(config_class_of_name(step)).items():
            one_word: dict[str, Any] = {"nargs": "?", "const": "true"} if kind is bool else {}
            parser.add_argument(f"--{step}.{name}", help=argparse.SUPPRESS, **one_word)
    if isinstance(parser, FlagParser):
        parser.find_defaults = _find_defaults
    return group


def _find_defaults(flags: Flags) -> dict[str, Any]:
    """Setting -> its default in the run that the flags name, or what is said where the named ones differ."""
    from bertline.pipelines.recipes import EXAMPLES, RECIPES, RUNS, named_run, recipe, with_own_text
    from bertline.pipelines.run_settings import TEXT_SOURCES, Run

    names = [field.name for field in dataclasses.fields(Run)]
    if flags.name:
        deciding = {name: getattr(flags, name) for name in ("model", *TEXT_SOURCES)}
        run = named_run(flags.name, {name: value for name, value in deciding.items() if value})
        shown = {name: show_value(getattr(run, name)).replace(str(EXAMPLES), EXAMPLES.name) for name in names}
        of_own_text = with_own_text(run)
        others = {name: show_value(getattr(of_own_text, name)) for name in names}
        return {
            name: shown[name] + ("" if others[name] == shown[name] else f"; {others[name]} {WITH_OWN_TEXT}")
            for name in names
        }
    runs = [*RUNS.values(), *(recipe(name, Run.model) for name in RECIPES)]
    return {name: BY_NAME for name in names if len({getattr(run, name) for run in runs}) > 1}


def read_run(flags: Flags) -> "Run":
    """The settings of the run that the flags of `bertline run` ask for; ValueError for unknown and wrong ones."""
    from bertline.pipelines.recipes import named_run
    from bertline.pipelines.step_settings import read_flags, read_tables

    file = read_config_file(Path(flags.config)) if flags.config else {}
    tables = {name: value for name, value in file.items() if isinstance(value, Mapping)}
    flagged = {name: value for name, value in vars(flags).items() if value is not None and "." in name}
    single = {name: value for name, value in flagged.items() if not name.startswith(f"{ON_CLUSTERS}.")}
    given = _short_names(flags, {name: value for name, value in file.items() if name not in tables})
    tables.pop(ON_CLUSTERS, None)
    run = named_run(flags.name, {name: value for name, value in given.items() if name not in OLD_TASKS})
    from_tables = read_tables(tables, flags.config or "", typed=is_typed(flags.config))
    return dataclasses.replace(run, tasks=_merge_tasks(given, run.tasks), steps=(*from_tables, *read_flags(single)))


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
    from bertline.pipelines.recipes import EXAMPLES, OF_EXAMPLE
    from bertline.pipelines.run_settings import Run, derive_settings, pipeline_arguments
    from bertline.pipelines.step_settings import DECIDED, RUN_STEPS, config_class, select_settings

    arguments, short = pipeline_arguments(run), derive_settings(run)
    yield f"# All settings of `bertline run {name}`. Change what you like, and run it:"
    yield f"#     bertline run {name} --config THIS_FILE"
    texts = _describe_fields(Run)
    del texts["steps"]
    lines = {field: _line(field, getattr(run, field)) for field in texts}
    for field, value in OF_EXAMPLE.items():  # its files lie elsewhere on another machine, and go where text is named
        if getattr(run, field) == value and str(EXAMPLES) in lines[field]:
            lines[field] = f"#{lines[field].replace(str(EXAMPLES), EXAMPLES.name)}  # the example's"
    yield from _format_settings(texts, lines, "== ")
    yield "\n\n# ==== settings of single steps ====\n#"
    yield "# A line such as #seed = 1 follows from the settings above, or is decided by the run itself."
    commented: dict[type, str] = {}
    for step in RUN_STEPS:
        given, decided = select_settings(step, run.steps), short[step].keys() | DECIDED.get(step, {}).keys()
        texts = _describe_fields(config_class(step))
        lines = {
            field: ("#" if field in decided and field not in given else "") + _line(field, arguments[step][field])
            for field in texts
        }
        yield f"\n\n[{step}]"
        if before := commented.get(config_class(step)):
            yield f"# What these are is said in [{before}]."
            yield from lines.values()
        else:
            commented[config_class(step)] = step
            yield from _format_settings(texts, lines)


def _describe_fields(cls: type[Any]) -> dict[str, FieldText]:
    """What is said of each field in a file of settings."""
    texts = dict(read_field_texts(cls))
    for field in dataclasses.fields(cls):
        if choices := list(filter(None, field.metadata.get("choices", ()))):
            text = f"{as_sentence(texts[field.name].help)} One of {', '.join(choices)}"
            texts[field.name] = texts[field.name]._replace(help=text)
    return texts


def _format_settings(texts: Mapping[str, FieldText], lines: Mapping[str, str], rule: str = "") -> Iterator[str]:
    """The line of each setting below what it is, in groups."""
    group = ""
    for field, text in texts.items():
        if text.group != group:
            group = text.group
            yield f"\n# ={rule}{group}{rule[::-1]}=" if rule else f"\n# -- {group} --"
        yield ""
        yield from textwrap.wrap(as_sentence(text.help), WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield lines[field]


def _line(name: str, value: Any) -> str:
    return f"{name} = {_toml(value)}"


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
    return run_here(flags.name, run, flags.out)


RUN = Verb(
    "Run the whole pipeline on this machine, from the dump to the scores",
    "bertline run tiny --dump enwiki-pages-articles.xml.bz2 --books shelf/ --vocab vocab.txt --out out\n"
    "bertline run budget --model small --text 'texts/*.txt' --task sst2=SST-2/\n"
    "A file holds all settings, with what they are; flags win over it:\n"
    "bertline run tiny --print_config > settings.toml\n"
    "bertline run tiny --config settings.toml --steps_128 2000",
    _flags,
    _run,
)
