"""The command line's verbs of steps, from their declarations, and the flags of settings.

Flags, their help and files of settings are derived from the steps' frozen dataclasses: one definition, one default.
"""

import argparse
import ast
import dataclasses
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from bertline.components.declaration import Step, make
from bertline.components.step_table import STEPS
from bertline.files import draft_of
from bertline.settings import list_known, restore_types, suggest

Flags = argparse.Namespace
Parser = argparse.ArgumentParser
Groups = Mapping[str, argparse._ArgumentGroup]
Config = TypeVar("Config")

HOME = re.compile(r"(^|[=,])~(?=/|$)")
SHORT_NAMES = {("VocabularyConfig", "vocab_size"): ("--size",)}  # further spellings of a flag
METAVARS = {int: "N", float: "X", str: "TEXT", bool: "{true,false}"}
_OF_A_BOOL: dict[str, Any] = {"nargs": "?", "const": "true"}  # its flag may stand alone
INPUT_AND_OUTPUT = "input and output"
NEW_FOLDER = "The folder to write: a new one, or one that holds just this already, which is kept."


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    summary: str
    example: str  # lines of commands and of text
    add_flags: Callable[[Parser], None]
    run: Callable[[Flags], int]  # the exit code


class FieldText(NamedTuple):
    """What the source says of a field of a dataclass."""

    group: str  # the comment that ends with a colon, above the field or above those before it
    help: str  # the comment on the field's lines, and those that follow


@dataclass(frozen=True)
class Setting:
    """One setting as a flag shows it."""

    name: str
    type: Any
    default: Any  # dataclasses.MISSING: it must be given
    help: str
    group: str = ""
    choices: tuple[str, ...] = ()  # all that it can be; none: it is free
    shown_as: str = ""  # in place of the type's word
    other_flags: tuple[str, ...] = ()  # that mean the same


class FlagParser(argparse.ArgumentParser):
    """A parser that names the known flag or value which an unknown one resembles."""

    def __init__(self, **settings: Any) -> None:
        """As argparse, but for abbreviations and what help shows."""
        super().__init__(**{"allow_abbrev": False, **settings, "add_help": False})
        self.add_argument("-h", "--help", nargs=0, action=_ShowHelp, help="Show this help.")
        # What the flags given before --help say of the defaults that it shows, by setting.
        self.find_defaults: Callable[[Flags], Mapping[str, Any]] = lambda given: {}

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse; unknown flags end with exit code 2."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown[0].partition('=')[0])}")
        return parsed

    def format_help(self) -> str:
        """Usage, what the verb does, its flags in their groups and examples, at the terminal's width."""
        from bertline.pipelines.cli.help import format_help

        return format_help(self)

    def format_usage(self) -> str:
        """What must be given."""
        from bertline.pipelines.cli.help import format_usage

        return format_usage(self)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += suggest(str(value), map(str, action.choices or ()))
            raise

    def _hint(self, flag: str) -> str:
        """For the flag of a step the known steps, or the settings of that step."""
        known = list(self._option_string_actions)
        step, dot, field = flag.rpartition(".")
        if not dot:
            return suggest(flag, known)
        parts = [name.rpartition(".") for name in known]
        fields = [name for owner, _, name in parts if owner == step]
        if fields:
            return list_known(field, fields, f"settings of {step[2:]}")
        steps = list(dict.fromkeys(owner[2:] for owner, _, _ in parts if owner and owner.count(".") == step.count(".")))
        return list_known(step[2:], steps, "steps") if steps else ""


class _ShowHelp(argparse.Action):
    """Help with the defaults that the flags before it lead to."""

    def __call__(self, parser: Any, namespace: Flags, values: Any, option_string: str | None = None) -> None:
        defaults = parser.find_defaults(namespace)
        for action in parser._actions:
            if action.dest in defaults:
                action.shown_default = show_value(defaults[action.dest])
        parser.print_help()
        parser.exit()


def describe_settings(cls: type[Any]) -> list[Setting]:
    """The fields of a step's dataclass that a flag can hold: all but lists."""
    types, texts = get_type_hints(cls), read_field_texts(cls)
    return [
        Setting(
            field.name,
            types[field.name],
            field.default,
            texts[field.name].help,
            texts[field.name].group,
            tuple(filter(None, field.metadata.get("choices", ()))),
            field.metadata.get("shown_as", ""),
            SHORT_NAMES.get((cls.__name__, field.name), ()),
        )
        for field in dataclasses.fields(cls)
        if types[field.name] in (bool, int, float, str)
    ]


def add_setting_flags(parser: Parser, settings: Iterable[Setting], title: str = "settings") -> Groups:
    """One `--name=value` flag per setting in its group, or in that of the title, and --config; returns the groups."""
    parser.add_argument("--config", metavar="FILE", help="A TOML or JSON file of settings, over which flags win.")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in settings:
        name = setting.group or title
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        required = setting.default is dataclasses.MISSING
        text = as_sentence(setting.help).replace("%", "%%")
        flag = groups[name].add_argument(
            *(f"--{setting.name}", *setting.other_flags),
            dest=setting.name,
            metavar=_show_values(setting),
            help=f"{text} {'(required)' if required else '(default: %(shown_default)s)'}".strip(),
            **_OF_A_BOOL if setting.type is bool else {},
        )
        flag.shown_default = show_value(setting.default)  # type: ignore[attr-defined]
    return groups


def _show_values(setting: Setting) -> str:
    return f"{{{','.join(setting.choices)}}}" if setting.choices else setting.shown_as or METAVARS[setting.type]


def add_config_flags(parser: Parser, cls: type[Any]) -> Groups:
    """One `--field=value` flag per field of `cls`, and --config."""
    return add_setting_flags(parser, describe_settings(cls))


def as_sentence(text: str) -> str:
    """A comment or a part of a message as help shows it.

    >>> as_sentence("documents, as `bertline ingest` writes them")
    'Documents, as `bertline ingest` writes them.'
    """
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}" if text else ""


def show_value(value: Any) -> str:
    """A setting's value as one would give it; "none" for an empty one."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) or "none" if isinstance(value, tuple) else str(value) or "none"


def config_from_flags(arguments: Flags, cls: type[Config]) -> Config:
    """An instance of `cls` from the flags given and the file of --config, over which flags win."""
    types = get_type_hints(cls)
    known = {field.name: types[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**read_given_settings(arguments, cls.__name__, known))


def read_given_settings(arguments: Flags, owner: str, types: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `owner` in the file of --config, and over them those that are given as flags."""
    from_file: dict[str, Any] = {}
    if arguments.config:
        from bertline.pipelines.cli.settings_file import read_config_file, restore_types_of_file

        values = read_config_file(Path(arguments.config))
        from_file = restore_types_of_file(arguments.config, owner, types, values)
    given = {name: value for name, value in vars(arguments).items() if name in types and value is not None}
    return from_file | restore_types(owner, types, given)


def field_comments(cls: type[Any]) -> dict[str, str]:
    """Field name -> what its comment says."""
    return {name: text.help for name, text in read_field_texts(cls).items()}


def read_field_texts(cls: type[Any]) -> Mapping[str, FieldText]:
    """Field name -> what the source says of it: the text of its flag's help, and the group that it stands in."""
    lines = inspect.getsource(cls).splitlines()
    body = ast.parse(inspect.cleandoc("\n".join(lines))).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    name_of = {line: node.target.id for node in fields for line in range(node.lineno, (node.end_lineno or 0) + 1)}  # type: ignore[union-attr]
    group, name, texts = "", "", dict[str, FieldText]()
    for number, line in enumerate(lines, start=1):
        code, _, comment = line.partition("# ")
        if number in name_of:  # several lines where the formatter broke a long one
            name, comment = name_of[number], line.partition("  # ")[2]
            texts.setdefault(name, FieldText(group, ""))
        elif code.strip() or not comment:
            name = ""
        elif not name and comment.endswith(":"):
            group = comment[:-1]
        if name and comment:
            texts[name] = texts[name]._replace(help=f"{texts[name].help} {comment.strip()}".strip())
    return texts


def expand_home(text: str) -> str:
    """A path, paths with commas, or TASK=FOLDER, with the "~" that a shell leaves in quotes and after a flag's "="."""
    return HOME.sub(lambda found: found[1] + os.path.expanduser("~"), text)  # noqa: PTH111 - part of a text


def with_underscores(argv: Sequence[str]) -> list[str]:
    """The arguments with flag names spelt as the originals do (--max_seq_length) and the user's home for "~"."""
    spelt = []
    for argument in map(expand_home, argv):
        name, equals, value = argument.partition("=")
        spelt.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return spelt


def step_verb(step: Step) -> Verb:
    """The verb that makes a step's artifact and prints its counts."""
    return Verb(step.summary, step.example, partial(_step_flags, step), partial(_run_step, step))


def _step_flags(step: Step, parser: Parser) -> None:
    """The inputs, the output and a flag per setting."""
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    for name, each in step.inputs.items():
        text = as_sentence(each.help).replace("%", "%%")
        group.add_argument(f"--{name}", required=not each.optional, metavar=each.shown_as, help=text)
    beside = "The file to write; beside it, in OUT.artifact, lies what it is made of."
    text = beside if step.only_file else NEW_FOLDER
    group.add_argument("--out", required=True, metavar="OUT", help=text)
    add_config_flags(parser, step.config_class())


def _run_step(step: Step, flags: Flags) -> int:
    from bertline.pipelines.cli.tables import print_counts, print_figures

    out, inputs = Path(flags.out), {name: getattr(flags, name) for name in step.inputs}
    config = config_from_flags(flags, step.config_class())
    if not step.only_file:
        print_counts(make(step, out, config, inputs))
        return 0
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder; give the file to write, for example {out / step.only_file}")
    made = make(step, out.with_name(f"{out.name}.artifact"), config, inputs)
    with draft_of(out) as draft:
        shutil.copyfile(made.path / step.only_file, draft)
    print_figures(made.manifest["kind"], made.manifest["counts"])
    print(f"{'already made' if made.reused else 'written'}: {out} (what it is made of: {made.path})")
    return 0


STEP_VERBS = {name: step_verb(step) for name, step in STEPS.items()}
