"""A Redis that a test may stop, and relays on it."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from maxxit.embedded.servers import Redis


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis of this test's own, running, on a port that no other installation takes while it is stopped."""
    home = Path(tempfile.mkdtemp(prefix="maxxit-bus-"))
    server = Redis(home, ephemeral=True)
    server.home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (server.home / "port").write_text(str(probe.getsockname()[1]))
    server.start()
    yield server
    server.stop()
