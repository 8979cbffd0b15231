"""The task and the format that docs/contributing.md adds, added to a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
CHECKPOINT = """
from pathlib import Path
from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint

config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
Path("checkpoint").mkdir()
weights = initial_weights(pretraining_shapes(config), 0.2, seed=5)
write_checkpoint(Path("checkpoint"), Checkpoint(config, weights, Path("vocab.txt").read_bytes(), True, {"step": 1}))
Path("exported").mkdir()

from bertline.model.formats.export import ExportConfig, run
print(run(Path("checkpoint"), Path("exported"), ExportConfig(to="npz")))
"""
TASK = """
from pathlib import Path
from bertline.components.tasks.classification import read_examples
print([each.label for each in read_examples("rte", Path("rte.tsv"))])
"""


def shown(title: str) -> str:
    """The block of the page with this title."""
    found = re.search(rf'```python title="{title}"\n(.*?)```', PAGE, re.DOTALL)
    assert found is not None, title
    return found[1]


def insert(file: Path, place: str, text: str) -> None:
    """Put a text before the one place of a file."""
    content = file.read_text(encoding="utf-8")
    assert content.count(place) == 1
    file.write_text(content.replace(place, text + place), encoding="utf-8")


def call(code: str, project: Path, folder: Path) -> str:
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with the additions."""
    copy = tmp_path / "project"
    for folder in ("components", "model", "src"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("pipelines", "tokenizer"):
        (copy / folder).symlink_to(ROOT / folder)
    insert(copy / "components" / "tasks" / "classification.py", '    "sst2": Columns', shown("a line of TASKS"))
    formats = copy / "model" / "formats"
    (formats / "npz.py").write_text(shown("model/formats/npz.py"), encoding="utf-8")
    insert(formats / "export.py", '    if options.to == "tf1":', shown("before the branch of tf1 in write_export"))
    insert(formats / "export.py", '"huggingface", "sentence-transformers", "tf1"', '"npz", ')
    return copy


@pytest.mark.slow
def test_a_format_of_a_module_and_a_branch_is_exported(project: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\n", encoding="utf-8")
    assert "'tensors': 30" in call(CHECKPOINT, project, tmp_path)
    assert (tmp_path / "exported" / "model.npz").is_file()


def test_a_task_of_a_line_is_read(project: Path, tmp_path: Path) -> None:
    rows = "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n1\tA.\tB.\tnot_entailment\n"
    (tmp_path / "rte.tsv").write_text(rows, encoding="utf-8")
    assert call(TASK, project, tmp_path) == "['entailment', 'not_entailment']\n"
