"""Same seed, same bytes, whatever the code looks like: a small run's files have the digests committed in tests/data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
EXPECTED = json.loads((DATA / "golden_bytes.json").read_text())
FOLDERS = sorted({Path(name).parts[0] for name in EXPECTED})
TOLERANCE = 1e-5  # other processors sum in another order; the 20 steps move weights by up to 1e-3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a run, and the digests of its files."""
    folder = tmp_path_factory.mktemp("golden") / "made"
    tool = [sys.executable, ROOT / "tests" / "golden_bytes.py", ROOT, f"--keep={folder}"]
    ended = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_bytes_are_those_committed(folder: str, made: tuple[Path, dict[str, str]]) -> None:
    expected, found = (
        {name: digest for name, digest in digests.items() if Path(name).parts[0] == folder}
        for digests in (EXPECTED, made[1])
    )
    assert found == expected


@pytest.mark.slow
def test_weights_after_20_steps_are_those_committed(made: tuple[Path, dict[str, str]]) -> None:
    weights = load_file(made[0] / "checkpoint" / "model.safetensors")
    expected = np.load(DATA / "golden_bytes.npz")
    assert sorted(weights) == sorted(expected)
    for name, values in weights.items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=TOLERANCE, err_msg=name)
