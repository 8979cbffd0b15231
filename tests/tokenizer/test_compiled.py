"""Compiled loops, and the cache of their machine code."""

import subprocess
import sys

PROGRAM = """
import sys
from bertline.tokenizer.compiled import compiled, is_cached
from bertline.model.records.rows import draw
import numpy as np
before = is_cached()
draw(np.uint64(1), 2)
print(before, is_cached())
"""


def ran(cache) -> str:
    environment = {"XDG_CACHE_HOME": str(cache), "PATH": "/usr/bin:/bin", "HOME": str(cache)}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    return ended.stdout.strip()


def test_machine_code_is_kept_for_the_next_process(tmp_path):
    assert ran(tmp_path) == "False True"
    assert ran(tmp_path) == "True True"
    assert [path.parent.name for path in tmp_path.iterdir()] == [tmp_path.name]


def test_without_a_folder_to_write_to_it_is_compiled_afresh(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert ran(tmp_path / "file") == "False False"
