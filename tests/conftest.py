"""What every test may use: the folder of golden outputs, when the machine has it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """Golden outputs of the originals (see tests/README.md); skips where they are not at hand."""
    folder = os.environ.get("BERTLINE_REFERENCE")
    if not folder:
        pytest.skip("BERTLINE_REFERENCE does not name a folder of golden outputs")
    return Path(folder)
