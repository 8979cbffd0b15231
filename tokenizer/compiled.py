"""Loops over tokens, compiled by Numba: as readable as the originals' and a hundred times as fast.

The machine code is kept in the user's cache folder, under a digest of the sources of all compiled functions:
Numba's own cache would miss a change in a function that another file's function calls.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

ROOT = Path(__file__).parent.parent  # the folder of the package
MARK = "@compiled\n"


def compiled(function: Function) -> Function:
    """`function` in machine code, made at its first call; `function.py_func` is the plain one."""
    if not _can_keep():  # compiled afresh in every process
        return numba.njit(nogil=True)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_cache_folder())
    try:
        return numba.njit(cache=True, nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before


def is_cached() -> bool:
    """Whether the machine code of an earlier process can be used; else its making takes about 15 s."""
    return any(_cache_folder().rglob("*.nbc"))


@cache
def _can_keep() -> bool:
    """Whether machine code can be written; Numba would else choose another folder, and there find stale code."""
    try:
        _cache_folder().mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(_cache_folder(), os.W_OK)


@cache
def _cache_folder() -> Path:
    sources = hashlib.sha256()
    for file in sorted(ROOT.glob("*/**/*.py")):
        content = file.read_text(encoding="utf-8")
        if MARK in content:
            sources.update(content.encode())
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "bertline" / sources.hexdigest()[:16]
