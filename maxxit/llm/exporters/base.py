"""The interface of a trace exporter: one batch of traces, one request.

It implements one protocol only; scheduling and failures are handled by `maxxit.llm.export`. It raises `Retryable`
when the receiver is down, `Rejected` when it rejects the batch, `Misconfigured` when URL or credentials are missing.
"""

from collections.abc import Sequence
from typing import Protocol

from maxxit.llm.models import LlmTrace


class Exporter(Protocol):
    """Sends traces to an external system."""

    def send(self, traces: Sequence[LlmTrace]) -> int:
        """Send a batch; return how many were accepted. A trace that is sent twice must be stored once."""
