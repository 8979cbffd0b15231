"""What others wrote: JSON of the shape that its reader needs, and names of files that stay below their folder."""

import json
from pathlib import Path
from typing import Any

PARTS_OF_NO_NAME = ("", ".", "..")


class FileName(str):
    """In a shape: a text that names a file below a folder."""


def parse_document(content: bytes | str, where: object, shape: Any, advice: str = "") -> Any:
    """The value of a JSON text; ValueError that says `where` it is damaged and what to do, unless it is of the shape.

    A shape is a type, a list with the shape of each entry, a dict with those of its keys ("pages?" may be absent), or
    a dict with the shape of any key and that of its value.
    """
    try:
        value = json.loads(content)
        _require_shape(value, shape, "it")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: damaged ({error})" + (f"; {advice}" if advice else "")) from error
    return value


def _require_shape(value: Any, shape: Any, name: str) -> None:
    kind: Any = str if shape is FileName else shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is no {kind.__name__}")
    if shape is FileName:
        require_inside(value)
    elif isinstance(shape, list):
        for each in value:
            _require_shape(each, shape[0], f"an entry of {name}")
    elif isinstance(shape, dict):
        _require_keys(value, shape, name)


def _require_keys(value: Any, shape: Any, name: str) -> None:
    for key, wanted in shape.items():
        if isinstance(key, type):
            for any_key, each in value.items():
                _require_shape(any_key, key, "a key")
                _require_shape(each, wanted, any_key)
        elif key.removesuffix("?") in value:
            _require_shape(value[key.removesuffix("?")], wanted, key.removesuffix("?"))
        elif not key.endswith("?"):
            raise ValueError(f"{name} has no {key}")


def inside(folder: Path, name: str) -> Path:
    """The file of that name, with slashes, below a folder; ValueError where it would lie elsewhere.

    >>> inside(Path("out"), "part/0.txt")
    PosixPath('out/part/0.txt')
    """
    require_inside(name)
    return folder / name


def require_inside(name: str) -> None:
    """Refuse a name that leads out of the folder which it is put into, or is another way to write one that does not."""
    if any(part in PARTS_OF_NO_NAME for part in name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file below a folder")
