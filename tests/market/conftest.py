"""Close the HTTP connections of feeds after each test."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from maxxit.core import http
from maxxit.market.feeds import wire


@pytest.fixture(autouse=True)
def closed_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every client that a feed opens is closed after the test."""
    with ExitStack() as opened:

        def client(*args: Any, **options: Any) -> http.Client:
            one = http.client(*args, **options)
            opened.callback(one.close)
            return one

        monkeypatch.setattr(wire, "client", client)
        yield
