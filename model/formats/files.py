"""The small files of a model folder: read with errors that name them, and written alike everywhere."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

POINTER = b"version https://git-lfs.github.com/spec/"  # how git-lfs begins the text that stands for a large file


def read_bytes(path: Path) -> bytes:
    """The content of a file that must be there; ValueError for a git-lfs pointer in its place."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; take the folder as it was released")
    require_fetched(path)
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """The value in a JSON file; ValueError for a file that is not JSON."""
    try:
        return json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}); take the folder as it was released") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError for another value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write a JSON file with sorted keys, so that equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def require_fetched(path: Path) -> None:
    """ValueError when the file is the text that git leaves in place of a file that git-lfs keeps."""
    with path.open("rb") as file:
        start = file.read(len(POINTER))
    if start == POINTER:
        raise ValueError(
            f'{path}: a git-lfs pointer, the real file was not fetched; run "git lfs pull" in that folder, '
            "or download the file itself"
        )


def name_some(names: Sequence[object], shown: int = 3) -> str:
    """The first names, with commas between them, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(str, names[:shown])) + more
