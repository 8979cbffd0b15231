"""The command line's verbs: one per step, from its declaration, and those for text, whole pipelines and stores.

Their flags and files of settings are derived from the steps' frozen dataclasses: one definition, one default.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from bertline.components.declaration import Step, make, vocab_file
from bertline.components.step_table import STEPS
from bertline.files import draft_of
from bertline.pipelines.cli.tables import print_counts
from bertline.settings import restore_types, suggest

Flags = argparse.Namespace
Parser = argparse.ArgumentParser
Config = TypeVar("Config")

HOME = re.compile(r"(^|[=,])~(?=/|$)")
SHORT_NAMES = {("VocabularyConfig", "vocab_size"): ("--size",)}  # further spellings of a flag


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    summary: str
    example: str
    add_flags: Callable[[Parser], None]
    run: Callable[[Flags], int]  # the exit code


@dataclass(frozen=True)
class Setting:
    """One setting as a flag shows it."""

    name: str
    type: Any
    default: Any  # dataclasses.MISSING: it must be given
    help: str
    other_flags: tuple[str, ...] = ()  # that mean the same


class FlagParser(argparse.ArgumentParser):
    """A parser that names the known flag which an unknown one resembles."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse; unknown flags end with exit code 2."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown[0].partition('=')[0])}")
        return parsed

    def _hint(self, flag: str) -> str:
        """For the flag of a step the known steps, or the settings of that step."""
        known = list(self._option_string_actions)
        step, dot, field = flag.partition(".")
        if not dot:
            return suggest(flag, known)
        fields = [name.removeprefix(f"{step}.") for name in known if name.startswith(f"{step}.")]
        if fields:
            return f"; settings of {step[2:]}: {', '.join(fields)}{suggest(field, fields)}"
        steps = list(dict.fromkeys(name.partition(".")[0][2:] for name in known if "." in name))
        return f"; steps: {', '.join(steps)}{suggest(step[2:], steps)}" if steps else ""


def describe_settings(cls: type[Any]) -> list[Setting]:
    """The fields of a step's dataclass that a flag can hold: all but lists."""
    types, comments = get_type_hints(cls), field_comments(cls)
    return [
        Setting(
            field.name,
            types[field.name],
            field.default,
            comments.get(field.name, ""),
            SHORT_NAMES.get((cls.__name__, field.name), ()),
        )
        for field in dataclasses.fields(cls)
        if types[field.name] in (bool, int, float, str)
    ]


def add_setting_flags(parser: Parser, title: str, settings: Iterable[Setting]) -> None:
    """One `--name=value` flag per setting, and --config."""
    parser.add_argument("--config", metavar="FILE", help="JSON or TOML file of settings; flags win over it")
    group = parser.add_argument_group(title)
    for setting in settings:
        default = "required" if setting.default is dataclasses.MISSING else f"default {setting.default!r}"
        text = f"{setting.help} ({default})".strip().replace("%", "%%")
        names = [f"--{setting.name}", *setting.other_flags]
        if setting.type is bool:
            group.add_argument(*names, dest=setting.name, nargs="?", const="true", metavar="true|false", help=text)
        else:
            group.add_argument(*names, dest=setting.name, metavar=setting.type.__name__, help=text)


def add_config_flags(parser: Parser, cls: type[Any]) -> None:
    """One `--field=value` flag per field of `cls`, and --config."""
    add_setting_flags(parser, f"settings ({cls.__name__})", describe_settings(cls))


def config_from_flags(arguments: Flags, cls: type[Config]) -> Config:
    """An instance of `cls` from the flags given and the file of --config, over which flags win."""
    types = get_type_hints(cls)
    known = {field.name: types[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**read_given_settings(arguments, cls.__name__, known))


def read_given_settings(arguments: Flags, owner: str, types: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `owner` in the file of --config, and over them those that are given as flags."""
    file = arguments.config
    from_file = restore_types_of_file(file, owner, types, read_config_file(Path(file))) if file else {}
    given = {name: value for name, value in vars(arguments).items() if name in types and value is not None}
    return from_file | restore_types(owner, types, given)


def restore_types_of_file(file: str, owner: str, types: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a file, as `restore_types` reads them; its messages name the file."""
    try:
        return restore_types(owner, types, values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_config_file(path: Path) -> Mapping[str, Any]:
    """The mapping in a .toml file, or in one of any other name with JSON; ValueError when it holds none."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; --config takes a JSON or TOML file of settings")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder; --config takes a JSON or TOML file of settings")
    is_toml = path.suffix == ".toml"
    try:
        text = path.read_text(encoding="utf-8")
        value = tomllib.loads(text) if is_toml else json.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        read_as = "" if is_toml else "; it was read as JSON, since its name does not end in .toml"
        raise ValueError(f"{path}: {error}; expected a JSON or TOML file of settings{read_as}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object of settings, found a {type(value).__name__}")
    return value


def field_comments(cls: type[Any]) -> dict[str, str]:
    """Field name -> the comment on its lines in the source: the text of its flag's help."""
    lines = inspect.getsource(cls).splitlines()
    body = ast.parse(inspect.cleandoc("\n".join(lines))).body[0]
    assert isinstance(body, ast.ClassDef)
    comments = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            of_field = lines[node.lineno - 1 : node.end_lineno]  # several where the formatter broke a long one
            comments[node.target.id] = "".join(line.partition("  # ")[2].strip() for line in of_field)
    return comments


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
    for name, each in step.inputs.items():
        text = each.help.replace("%", "%%")
        parser.add_argument(f"--{name}", required=not each.optional, metavar="PATH", help=text)
    parser.add_argument("--out", required=True, metavar="PATH", help="what to write; must not exist yet")
    add_config_flags(parser, step.config_class())


def _run_step(step: Step, flags: Flags) -> int:
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
    print_counts(made)
    return 0


def _tokenize_flags(parser: Parser) -> None:
    parser.add_argument("--vocab", required=True, metavar="PATH", help="vocab.txt, or a vocabulary artifact")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--json", action="store_true", help="each input line is a JSON string")


def _tokenize(flags: Flags) -> int:
    """Standard input to ids, one JSON list a line."""
    from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

    vocabulary = load_vocabulary(vocab_file(Path(flags.vocab)))
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=not flags.cased)
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        line = raw.decode("utf-8", errors="ignore").rstrip("\n")
        print(json.dumps(tokenizer.encode(_parse_json_string(line, number) if flags.json else line)))
    return 0


def _parse_json_string(line: str, number: int) -> str:
    try:
        text = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"standard input:{number}: not a JSON string ({error})") from error
    if not isinstance(text, str):
        raise ValueError(f"standard input:{number}: a JSON string is wanted, not {type(text).__name__}")
    return text


def _compile_flags(parser: Parser) -> None:
    from bertline.pipelines.platforms import PLATFORMS

    parser.add_argument("--platform", choices=[*PLATFORMS, "all"], default="all", help="what to compile for")
    parser.add_argument("--out", default="build/pipelines", metavar="DIR", help="folder of the YAML files")


def _compile(flags: Flags) -> int:
    from bertline.pipelines.platforms import PLATFORMS
    from bertline.pipelines.pretraining import compile_pipeline

    for name, platform in PLATFORMS.items():
        if flags.platform in (name, "all"):
            path = Path(flags.out) / f"pretraining.{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            compile_pipeline(platform, str(path))
            print(f"written: {path}")
    return 0


def _lineage_flags(parser: Parser) -> None:
    parser.add_argument("--store", default="out/store", metavar="DIR", help="folder of artifacts (default: out/store)")
    parser.add_argument("--run", default="", metavar="NAME", dest="of_run", help="show this run's artifacts only")
    parser.add_argument("--out", default="out/lineage.html", metavar="FILE", help="the page to write")


def _lineage(flags: Flags) -> int:
    from bertline.components.pages.lineage import write_page

    write_page(Path(flags.store), Path(flags.out), flags.of_run)
    print(f"written: {flags.out}")
    return 0


VERBS = {
    **{name: step_verb(step) for name, step in STEPS.items()},
    "tokenize": Verb(
        "standard input -> word-piece ids, one JSON list a line",
        "echo 'unwanted running' | bertline tokenize --vocab vocab.txt",
        _tokenize_flags,
        _tokenize,
    ),
    "compile": Verb(
        "write the pipeline for kfp.local, Kubeflow Pipelines and Vertex AI",
        "bertline compile --platform vertex",
        _compile_flags,
        _compile,
    ),
    "lineage": Verb(
        "draw the page that shows what was made from what",
        "bertline lineage --store out/store --out lineage.html",
        _lineage_flags,
        _lineage,
    ),
}
