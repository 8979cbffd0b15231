"""The flag input_file of google-research/bert's programs -> files."""

import glob
from pathlib import Path


def find_matching_files(patterns: str) -> list[Path]:
    """The files that comma-separated names and globs name, in the order of the patterns.

    Raises FileNotFoundError for a pattern that matches no file.
    """
    found: list[Path] = []
    for pattern in (each.strip() for each in patterns.split(",") if each.strip()):
        matches = sorted(Path(match) for match in glob.glob(pattern))  # noqa: PTH207 - may be absolute
        files = [match for match in matches if match.is_file()]
        if not files:
            raise FileNotFoundError(f"{pattern}: no such file; input_file takes files and globs, comma-separated")
        found += files
    if not found:
        raise FileNotFoundError("input_file names no file; give files or globs, comma-separated")
    return found
