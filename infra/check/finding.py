"""What is wrong with a file, where, and what to do."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong."""

    file: str  # relative to the project's root
    line: int  # from 1; 0: of the file as a whole
    what: str
    advice: str = ""

    def __str__(self) -> str:
        """One line, as compilers write it."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.what}" + (f"; {self.advice}" if self.advice else "")


class Unchecked(Exception):  # noqa: N818 - no error: the machine lacks what a check needs
    """A check cannot be made here, and why."""


def read(root: Path, name: str) -> str:
    """The text of a file of the project; "" where there is none."""
    path = root / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def line_of(text: str, pattern: str, after: int = 1) -> int:
    """The line where a pattern is first found, from line `after` on; 0 where it is not."""
    start = sum(len(line) for line in text.splitlines(keepends=True)[: after - 1])
    found = re.compile(pattern, re.MULTILINE).search(text, start)
    return 0 if found is None else text.count("\n", 0, found.start()) + 1


def line_at(text: str, position: int) -> int:
    """The line of a position in a text."""
    return text.count("\n", 0, position) + 1


def list_manifests(root: Path) -> dict[str, str]:
    """Name -> text of all YAML files of infra/."""
    files = sorted((root / "infra").rglob("*.yaml"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in files}


def read_lock(root: Path, name: str) -> dict[str, str]:
    """Package -> version."""
    pairs = (line.split("==") for line in read(root, name).splitlines() if "==" in line)
    return {package.lower().replace("_", "-"): version for package, version in pairs}
