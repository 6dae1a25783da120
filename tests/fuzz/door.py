"""The one door out, replaced: every request is answered with the bytes at hand, and refusals of rows are counted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx

from maxxit.core import http
from maxxit.core.errors import Retryable, Unknown
from maxxit.llm.providers import wire as models
from maxxit.market.feeds import coinbase, pyth, wire
from signals_app.sources import x

Headers = list[tuple[bytes, bytes]]
REQUEST = httpx.Request("GET", "https://provider.example/")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows of one input. `present` is None where the input does not say how many there are."""

    read: int
    refused: int = 0
    present: int | None = None

    @property
    def lost(self) -> bool:
        """Whether a row was neither read nor refused, or was made up."""
        return self.present is not None and self.read + self.refused != self.present


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of bytes, and samples that it reads."""

    samples: Sequence[bytes]
    read: Callable[[bytes], Outcome]


class Log:
    """Takes what a module logs; counts the rows that were refused, and the symbols without an answer."""

    def __init__(self) -> None:
        self.rows = self.unanswered = 0

    def warning(self, event: str, **said: Any) -> None:
        self.rows += event == "row_refused"
        self.unanswered += len(said["symbols"]) if event == "symbols_unanswered" else 0

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


class Door:
    """What the next request is answered with."""

    def __init__(self) -> None:
        self.body, self.status, self.headers = b"", 200, Headers()
        self.log = Log()

    def says(self, body: bytes, status: int = 200, headers: Headers | None = None) -> None:
        """For every request from now on."""
        self.body, self.status, self.headers = body, status, headers or Headers()
        self.log.rows = self.log.unanswered = 0

    def fetch(self, _: Any, __: str, ___: str, *, writes: bool = False, **____: Any) -> http.Response:
        """In place of `maxxit.core.http.fetch`."""
        response = http.Response(self.status, content=self.body, headers=self.headers, request=REQUEST)
        return http._check_status(response, Unknown if writes else Retryable)


DOOR = Door()


@contextmanager
def replaced() -> Iterator[None]:
    """Inside, the readers' requests end at `DOOR`."""
    with ExitStack() as stack:
        for module in (http, wire, models):
            stack.enter_context(patch.object(module, "fetch", DOOR.fetch))
        stack.enter_context(patch.object(models, "client", lambda *_, **__: nullcontext()))
        for module in (wire, coinbase, pyth, x, models):
            stack.enter_context(patch.object(module, "log", DOOR.log))
        yield
