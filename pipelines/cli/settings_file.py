"""The file of --config: TOML or JSON -> settings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertline.settings import restore_types


def is_typed(file: str | Path | None) -> bool:
    """Whether values in the file have their types: in TOML a text is never a number; JSON may come from KFP."""
    return file is not None and Path(file).suffix == ".toml"


def restore_types_of_file(file: str, owner: str, types: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a file, as `restore_types` reads them; its messages name the file."""
    try:
        return restore_types(owner, types, values, typed=is_typed(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_config_file(path: Path) -> Mapping[str, Any]:
    """The mapping in a .toml file, or in one of any other name with JSON; ValueError when it holds none."""
    import tomllib

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; --config takes a JSON or TOML file of settings")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder; --config takes a JSON or TOML file of settings")
    is_toml = is_typed(path)
    try:
        text = path.read_text(encoding="utf-8")
        value = tomllib.loads(text) if is_toml else json.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        read_as = "" if is_toml else "; it was read as JSON, since its name does not end in .toml"
        raise ValueError(f"{path}: {error}; expected a JSON or TOML file of settings{read_as}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object of settings, found a {type(value).__name__}")
    return value
