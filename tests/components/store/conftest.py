"""A bucket that answers within half a second, or is taken to be stalled."""

import pytest

from bertline.components.store import bucket
from fakes.storage_server import StorageServer


@pytest.fixture
def server(storage_server: StorageServer, monkeypatch: pytest.MonkeyPatch) -> StorageServer:
    monkeypatch.setattr(bucket, "REQUEST_SECONDS", (2, 0.5))
    return storage_server
