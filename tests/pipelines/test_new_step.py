"""A new step is three files: its module, an entry in the step table, and its place in a graph."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULE = '''"""Documents -> the longest of them."""

from dataclasses import dataclass
from pathlib import Path

from bertline.components.corpus.documents import list_document_shards, read_documents


@dataclass(frozen=True)
class LongestConfig:
    """How many are kept."""

    number: int = 3  # documents


def run(documents: Path, out: Path, config: LongestConfig) -> dict[str, int | float]:
    """Write the ids of the longest documents into `out`."""
    found = [each for shard in list_document_shards(documents) for each in read_documents(shard)]
    found.sort(key=lambda document: -len(document.text))
    (out / "longest.txt").write_text("".join(f"{each.id}\\\\n" for each in found[: config.number]))
    return {"documents": len(found)}
'''.replace("\\\\", "\\")
ENTRY = """
STEPS["longest"] = Step(
    name="longest",
    summary="documents -> the longest of them",
    example="bertline longest --documents documents --out longest",
    inputs={"documents": Input("documents", "documents, as `bertline ingest` writes them")},
    config="bertline.components.corpus.longest:LongestConfig",
    run="bertline.components.corpus.longest:run",
    kind="longest_{config.number}",
    output="longest",
)
"""
GRAPH = '''"""From a text to its longest documents."""

from kfp import dsl

from bertline.components.steps import build_component


@dsl.pipeline(name="longest")
def longest(store: str, text: str, settings: dict):
    documents = build_component("ingest")(store=store, run="try", text=text, config={}).output
    build_component("longest")(store=store, run="try", documents=documents, config=settings)
'''
RUN = """
import sys
from kfp import local
from bertline.pipelines.longest import longest
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
longest(store=sys.argv[2], text=sys.argv[3], settings={"number": 2})
"""


@pytest.fixture
def with_a_new_step(tmp_path: Path) -> dict[str, str]:
    """The environment of a copy of the project that has the step."""
    copy = tmp_path / "project"
    for folder in ("components", "pipelines", "src"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("model", "tokenizer"):
        (copy / folder).symlink_to(ROOT / folder)
    (copy / "components" / "corpus" / "longest.py").write_text(MODULE)
    with (copy / "components" / "step_table.py").open("a") as table:
        table.write(ENTRY)
    (copy / "pipelines" / "longest.py").write_text(GRAPH)
    return os.environ | {"PYTHONPATH": str(copy / "src")}


@pytest.mark.slow
def test_a_new_step_of_three_files_has_a_verb_an_artifact_and_a_component(
    with_a_new_step: dict[str, str], tmp_path: Path
) -> None:
    def run(*argv: str) -> None:
        ended = subprocess.run(
            [sys.executable, *argv], env=with_a_new_step, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    for name, times in (("short", 1), ("long", 9), ("longer", 12)):
        (tmp_path / f"{name}.txt").write_text("A sentence of a text that is long enough. " * times)
    run("-m", "bertline", "ingest", "--text=*.txt", "--out=documents")
    run("-m", "bertline", "longest", "--documents=documents", "--number=2", "--out=longest")
    assert (tmp_path / "longest" / "longest.txt").read_text() == "text:longer.txt:0\ntext:long.txt:0\n"
    manifest = json.loads((tmp_path / "longest" / "MANIFEST.json").read_text())
    assert (manifest["step"], manifest["kind"], manifest["counts"]) == ("longest", "longest_2", {"documents": 3})

    run("-c", RUN, "kfp", "store", "*.txt")
    notes = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "store" / "runs" / "try").glob("*.json")}
    assert notes.keys() == {"ingest", "longest"}
    assert notes["longest"]["fingerprint"] == manifest["fingerprint"]  # the same artifact, made by the KFP component
    assert (tmp_path / notes["longest"]["path"] / "longest.txt").is_file()
