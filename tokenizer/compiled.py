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
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_cache_folder())
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written to: compiled afresh in every process
        return numba.njit(nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _cache_folder() -> Path:
    sources = hashlib.sha256()
    for file in sorted(ROOT.glob("*/*.py")):
        content = file.read_text(encoding="utf-8")
        if MARK in content:
            sources.update(content.encode())
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "bertline" / sources.hexdigest()[:16]
