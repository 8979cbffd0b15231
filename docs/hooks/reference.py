"""A hook of the site: the reference of commands, settings and named runs, made from the code."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from mkdocs.structure.files import File, Files

from bertline.components.declaration import load
from bertline.components.step_table import STEPS
from bertline.pipelines.cli import originals
from bertline.pipelines.cli.main import VERBS
from bertline.pipelines.cli.run_verb import format_config
from bertline.pipelines.cli.verbs import FlagParser, as_sentence, field_comments, show_value
from bertline.pipelines.recipes import EXAMPLES, RECIPES, RUNS, recipe
from bertline.pipelines.run_settings import Run

COMMANDS, CONFIGURATIONS, SETTINGS = "reference/commands/", "reference/configurations/", "reference/settings.md"
SETTINGS_HEAD = """# Settings

Every setting of every step, with its type, its default and what it is. A setting is a flag of the step's command, a
line in the file of `--config`, and in a whole run `--STEP.SETTING` ([Training](../guides/training.md)). The defaults
are those of the single command; a whole run has many of its own, in the
[files of the named runs](configurations/tiny.md).
"""
MARKS = {"<": "&lt;", "*": "\\*", "[": "\\[", "|": "\\|"}  # what Markdown would take for its own
FLAGS_TABLE = "| flag | what |\n|---|---|"
SETTINGS_TABLE = "| setting | type | default | what |\n|---|---|---|---|"


def on_config(config: Any) -> Any:
    """Put the pages made here where the site's navigation names their folder."""
    config.nav = _fill(config.nav, {COMMANDS: list(VERBS), CONFIGURATIONS: [*RUNS, *RECIPES]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Path -> Markdown of every page."""
    return {
        **{f"{COMMANDS}{name}.md": "\n".join(describe_command(name)) for name in VERBS},
        **{f"{CONFIGURATIONS}{name}.md": "\n".join(describe_run(name)) for name in (*RUNS, *RECIPES)},
        SETTINGS: "\n".join(describe_settings()),
    }


def describe_command(name: str) -> Iterator[str]:
    """The page of a verb, from its parser."""
    verb = VERBS[name]
    parser = FlagParser(prog=f"bertline {name}")
    verb.add_flags(parser)
    defaults = parser.find_defaults(argparse.Namespace(name=None))
    example = "\n".join(line.strip() for line in verb.example.splitlines())
    yield f"# bertline {name}\n\n{_text(verb.summary)}.\n\n```text\n{example}\n```\n"
    positionals, options, *groups = parser._action_groups  # argparse has no public way to what a parser takes
    for group in (positionals, *groups, options):
        shown = [each for each in group._group_actions if each.help != argparse.SUPPRESS and each.dest != "help"]
        for each in shown:
            if each.dest in defaults:  # as --help shows it
                each.shown_default = show_value(defaults[each.dest])
        if not (shown or group.description):
            continue
        title = group.title or "flags"
        yield f"## {_text(title[0].upper() + title[1:])}\n"
        if group.description:
            yield f"```text\n{group.description}\n```\n"
        if shown:
            yield FLAGS_TABLE
            yield from (f"| {_flag(each)} | {_text(_help(parser, each))} |" for each in shown)
            yield ""


def describe_run(name: str) -> Iterator[str]:
    """The page of a named run: all its settings as a file that runs it again."""
    run = RUNS[name] if name in RUNS else recipe(name, Run.model)
    recipes = f"A recipe ([their sources](../../recipes.md)), with model {run.model}"
    kind = "A run of the example's size" if name in RUNS else recipes
    yield f"# bertline run {name}\n\n{kind}: what `bertline run {name} --print_config` writes.\n"
    yield "```toml"
    yield from (line.replace(str(EXAMPLES), "examples") for line in format_config(name, run))
    yield "```"


def describe_settings() -> Iterator[str]:
    """The page of every step's dataclass of settings, and of those of whole runs and of the originals' programs."""
    yield SETTINGS_HEAD
    classes = {f"bertline {name}": step.config_class() for name, step in STEPS.items()}
    classes |= {"bertline run": Run, "bertline run_pretraining": load(originals.RUN_PRETRAINING.own)}
    classes |= {"bertline extract_features": load(originals.EXTRACT_FEATURES.config)}
    for title, cls in classes.items():
        types, comments = get_type_hints(cls), field_comments(cls)
        yield f"## {title}\n\n`{cls.__module__}.{cls.__name__}`\n\n{SETTINGS_TABLE}"
        for field in dataclasses.fields(cls):
            default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
            kind = ", ".join(filter(None, field.metadata.get("choices", ()))) or types[field.name].__name__
            yield f"| `{field.name}` | {kind} | {default} | {_text(as_sentence(comments.get(field.name, '')))} |"
        yield ""


def _flag(action: argparse.Action) -> str:
    names = action.option_strings or [action.metavar or action.dest]
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    takes_value = action.option_strings and action.nargs != 0
    return "<br>".join(f"`{name}{f'={value}' if takes_value else ''}`" for name in map(str, names))


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"{text} (required)" if action.required and action.option_strings else text


def _text(text: str) -> str:
    """`text` as Markdown that shows it as it is, but for `code`."""
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        for mark, shown in MARKS.items():
            parts[number] = parts[number].replace(mark, shown)
    return "`".join(parts)


def _fill(nav: Any, folders: dict[str, list[str]]) -> Any:
    """The navigation with a list of pages in place of a folder of `folders`."""
    if isinstance(nav, list):
        return [_fill(each, folders) for each in nav]
    if isinstance(nav, dict):
        return {title: _fill(each, folders) for title, each in nav.items()}
    return [{name: f"{nav}{name}.md"} for name in folders[nav]] if nav in folders else nav
