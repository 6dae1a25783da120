"""The interface of an exporter: one batch of traces, one request; the results of an evaluation in several.

It implements one protocol only; scheduling and failures are handled by `maxxit.llm.export`. It raises `Retryable`
when the receiver is down, `Rejected` when it rejects the batch, `Misconfigured` when URL or credentials are missing.
"""

from collections.abc import Sequence
from typing import Protocol

from maxxit.llm.exporters.experiment import Experiment
from maxxit.llm.models import LlmTrace


class Exporter(Protocol):
    """Sends traces and results of evaluations to an external system."""

    def check(self) -> None:
        """Raise `Misconfigured` when URL or credentials are missing, without a request."""

    def send(self, traces: Sequence[LlmTrace]) -> int:
        """Send a batch; return how many were accepted. A trace that is sent twice must be stored once."""

    def send_experiment(self, experiment: Experiment) -> int:
        """Send the results of an evaluation; return how many items were accepted. Sent twice it is stored once."""
