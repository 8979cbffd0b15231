"""What every test may use: golden outputs, where the machine has them; how many examples Hypothesis tries."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# `make test` tries a few, `make test-all` the many (--hypothesis-profile=many); a slow machine fails neither.
for profile, examples in (("few", 30), ("many", 400)):
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Golden outputs of the originals (see tests/README.md); skips where they are not at hand."""
    folder = os.environ.get("BERTLINE_REFERENCE")
    if not folder:
        pytest.skip("BERTLINE_REFERENCE does not name a folder of golden outputs")
    return Path(folder)
