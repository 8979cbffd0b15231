"""Settings: dataclasses from mappings and as mappings, compared, and the checks that several of them share."""

import dataclasses
import difflib
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")

PRECISIONS = ("float32", "mixed_bfloat16")  # of the computation; weights are always kept in float32
BACKENDS = ("tensorflow", "jax")  # the first is the default
BACKEND_VARIABLE = "KERAS_BACKEND"  # by which Keras is told
MAX_SEED = 2**31 - 1  # what every generator in use accepts
TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}  # for messages


def from_mapping(cls: type[Config], mapping: Mapping[str, Any]) -> Config:
    """An instance of the dataclass `cls` from JSON-like values, as `restore_types` reads them."""
    types = get_type_hints(cls)
    known = {field.name: types[field.name] for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    return cls(**restore_types(cls.__name__, known, mapping))


def restore_types(
    owner: str, types: Mapping[str, Any], mapping: Mapping[str, Any], *, typed: bool = False
) -> dict[str, Any]:
    """The settings of `owner` with their `types`, from JSON-like values.

    Restores the types that a KFP parameter or a flag lost (12.0 to 12, "true" to True; not of a `typed` mapping, such
    as a TOML file's) and refuses unknown keys and values of another type by name (ValueError).
    """
    unknown = sorted(set(mapping) - set(types))
    if unknown:
        raise ValueError(f"unknown {owner} keys: {', '.join(unknown)}{list_known(unknown[0], types)}")
    return {key: restore_type(key, value, types[key], typed=typed) for key, value in mapping.items()}


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that it resembles, if any does.

    >>> suggest("max_seq_lenght", ["max_seq_length", "seed"])
    '; did you mean max_seq_length?'
    """
    meant = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {meant[0]}?" if meant else ""


def list_known(name: str, known: Collection[str], what: str = "known") -> str:
    """The end of a message about an unknown name: the one that it resembles, and then all.

    >>> list_known("sead", ["max_seq_length", "seed"])
    '; did you mean seed? known: max_seq_length, seed'
    """
    return f"{suggest(name, known) or ';'} {what}: {', '.join(filter(None, known))}"


def restore_type(key: str, value: Any, wanted: Any, *, typed: bool = False) -> Any:
    """The value of the setting `key` as one of its type; ValueError when it is of another.

    Where values are `typed`, a text is a text alone.
    """
    if typed and isinstance(value, str) and wanted in (bool, int, float):
        raise ValueError(f"{key} must be {TYPE_WORDS[wanted]}, not the text {value!r}; write it without quotes")
    if wanted is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is str and isinstance(value, str):
        return value
    if wanted in (int, float) and not isinstance(value, bool):
        try:
            number = float(value) if wanted is float else int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is not None and (wanted is float or isinstance(value, str) or number == value):
            return number
    if wanted == tuple[str, ...] and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(f"{key} must be {TYPE_WORDS.get(wanted, 'a list of texts')}, not {value!r}")


def list_settings(config: Any, *, volatile: bool = False) -> dict[str, Any]:
    """The settings that decide bytes, or (`volatile`) the others, of a config; of its class, their defaults."""
    names = [field.name for field in dataclasses.fields(config) if bool(field.metadata.get("volatile")) is volatile]
    return {name: getattr(config, name) for name in names}


def list_named_files(config: Any) -> dict[str, Path]:
    """The files that settings name and whose content decides bytes: of a config that has any, its `named_files`."""
    named: Callable[[], dict[str, Path]] = getattr(config, "named_files", dict)
    return named()


def name_backend(config: Config) -> Config:
    """The config with the backend that the variable KERAS_BACKEND chooses for it; the default one stays "".

    So an artifact says what it was computed with, and what the other backend computes is another one.
    """
    chosen = os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if getattr(config, "backend", None) != "" or chosen == BACKENDS[0]:
        return config
    return dataclasses.replace(config, backend=chosen)  # type: ignore[type-var]


def describe_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The keys whose values differ, in words."""
    keys = [key for key in there if there[key] != here.get(key)]
    return ", ".join(f"{key} is {there[key]} there and {here.get(key)} here" for key in keys)


def require_at_least(config: Any, minimum: int, *names: str) -> None:
    """Refuse a config whose field is below `minimum`, or NaN (ValueError naming field, value and range)."""
    for name in names:
        if not getattr(config, name) >= minimum:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least {minimum}")


def whole_number(name: str, value: object, minimum: int | None = None, reason: str = "") -> int:
    """The value as an int; TypeError where it is no whole number (be it 2.0), ValueError below `minimum`.

    >>> whole_number("max_seq_length", 2, 3, "with its special tokens ")
    Traceback (most recent call last):
    ValueError: max_seq_length is 2; with its special tokens it must be at least 3
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # which is the question
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be a whole number") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} is {number}; {reason}it must be at least {minimum}")
    return number


def require_bool(name: str, value: object) -> None:
    """TypeError for "false" and the like, which Python would take for true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")


def require_positive(config: Any, *names: str) -> None:
    """Refuse a config whose field is zero, negative or NaN."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be greater than 0")


def require_seed(seed: int) -> None:
    """Refuse a seed that a generator would not take."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed is {seed}; it must lie between 0 and {MAX_SEED}")


def require_one_of(name: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is none of the `known` ones."""
    if value not in known:
        raise ValueError(f'{name} is "{value}"{list_known(value, known)}')


def one_of(default: str, known: Iterable[str]) -> Any:
    """A dataclass's field with one of the `known` values; "" among them stands for what the field says of none."""
    return dataclasses.field(default=default, metadata={"choices": tuple(known)})


def path(default: str = "") -> Any:
    """A dataclass's field with a path, or patterns of paths."""
    return dataclasses.field(default=default, metadata={"shown_as": "PATH"})


def require_choices(config: Any) -> None:
    """Refuse a config in which a field is none of the `choices` of its metadata."""
    for field in dataclasses.fields(config):
        if choices := field.metadata.get("choices"):
            require_one_of(field.name, getattr(config, field.name), choices)


def require_length(max_seq_length: int, max_position_embeddings: int) -> None:
    """Refuse sequences longer than the model's table of positions."""
    if max_seq_length > max_position_embeddings:
        raise ValueError(
            f"max_seq_length is {max_seq_length}, but the model has {max_position_embeddings} positions "
            "(max_position_embeddings); take a smaller max_seq_length"
        )
