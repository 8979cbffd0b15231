"""A digest of the source code that makes an artifact: changed code makes new artifacts, other code does not."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "bertline"
ROOT = Path(__file__).parents[2]  # the folder of the package, whose subfolders are the floors


@cache
def code_fingerprint(modules: tuple[str, ...]) -> str:
    """Hexadecimal digest over the sources of `modules` and of all that they import from bertline."""
    digest = hashlib.sha256()
    for name, file in sorted(_reached(modules).items()):
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _reached(modules: tuple[str, ...]) -> dict[str, Path]:
    """Module name -> source file, following imports at any depth of the code."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = _source(name)
        if name in found or file is None:
            continue
        found[name] = file
        waiting += _imported(ast.parse(file.read_text(encoding="utf-8")))
    return found


def _source(module: str) -> Path | None:
    """The file of a module of bertline; None for a package's name or an attribute of a module."""
    file = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return file if file.is_file() else None


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
