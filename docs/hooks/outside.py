"""A hook of the site: the files of the project outside docs/ that its pages show and link to, at their own paths."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHOWN = (
    *("benchmarks/RESULTS.md", "benchmarks/README.md", "benchmarks/plots/*.svg"),
    *("tests/README.md", "examples/README.md", "CHANGELOG.md"),
)
LINK = re.compile(r"(\]\()(\.\./[^)#]*|[^)#:]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Links as the repository has them, ../benchmarks/RESULTS.md, to where the site has the file."""
    here = page.file.src_uri
    in_tree = here if any(Path(here).match(pattern) for pattern in SHOWN) else f"docs/{here}"

    def place(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(in_tree), link[2]))
        target = target.removeprefix("docs/")
        if not link[2] or files.get_file_from_path(target) is None:
            return link[0]
        return f"{link[1]}{posixpath.relpath(target, posixpath.dirname(here) or '.')}{link[3] or ''})"

    return LINK.sub(place, markdown)
