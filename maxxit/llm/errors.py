"""Errors of calls that were not made: neither the prompt nor the provider is at fault."""

from maxxit.core.errors import Retryable


class NotCalled(Retryable):
    """No provider was called: it is paused, all its slots are taken, or a daily budget is used up."""


class SlotsTaken(NotCalled):
    """All slots of the provider were taken for as long as a call waits."""
