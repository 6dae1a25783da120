"""An exporter: a batch of finished traces in, one request out.

It knows a wire shape and nothing else: what is sent when, and what happens after a failure, is `maxxit.llm.export`.
It raises `Retryable` when the other side is away, `Rejected` when it said no, `Misconfigured` when nobody told us
where it is or who we are.
"""

from collections.abc import Sequence
from typing import Protocol

from maxxit.llm.models import LlmTrace


class Exporter(Protocol):
    """One place that keeps traces."""

    def send(self, traces: Sequence[LlmTrace]) -> int:
        """Hand them over; returns how many were taken. Sending one twice must do no harm there."""
