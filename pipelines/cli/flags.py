"""Flags and files derived from the steps' frozen dataclasses: one definition, one default."""

import argparse
import ast
import dataclasses
import inspect
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from bertline.settings import from_mapping

Config = TypeVar("Config")

SHORT_NAMES = {("VocabularyConfig", "vocab_size"): ("--size",)}  # further spellings of a flag


def add_config_flags(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """One `--field=value` flag per field of `cls`."""
    group = parser.add_argument_group(f"settings ({cls.__name__})")
    types, comments = get_type_hints(cls), field_comments(cls)
    for field in dataclasses.fields(cls):
        default = "required" if field.default is dataclasses.MISSING else f"default {field.default!r}"
        text = f"{comments.get(field.name, '')} ({default})".strip().replace("%", "%%")
        if types[field.name] is bool:
            group.add_argument(f"--{field.name}", nargs="?", const="true", metavar="true|false", help=text)
        else:
            names = [f"--{field.name}", *SHORT_NAMES.get((cls.__name__, field.name), ())]
            group.add_argument(*names, dest=field.name, metavar=types[field.name].__name__, help=text)


def config_from_flags(arguments: argparse.Namespace, cls: type[Config], **fixed: Any) -> Config:
    """An instance of `cls` from the flags given, the file of --config and `fixed` values, in that order."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if getattr(arguments, field.name, None) is not None
    }
    from_file = read_config_file(Path(arguments.config)) if getattr(arguments, "config", None) else {}
    return from_mapping(cls, {**fixed, **from_file, **given})


def read_config_file(path: Path) -> Mapping[str, Any]:
    """The mapping in a .json or .toml file; ValueError when it is neither."""
    text = path.read_text(encoding="utf-8")
    try:
        value = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}; expected a JSON or TOML file of settings") from error
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


def with_underscores(argv: Sequence[str]) -> list[str]:
    """The arguments with flag names spelt as the originals do: --max-seq-length is --max_seq_length."""
    spelt = []
    for argument in argv:
        name, equals, value = argument.partition("=")
        spelt.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return spelt
