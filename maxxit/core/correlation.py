"""Correlation ids: one per post, carried by every log line, event, order and LLM call that it causes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID, uuid5

NAMESPACE = UUID("6d617878-6974-5000-8000-000000000000")

_current: ContextVar[UUID | None] = ContextVar("correlation_id", default=None)


def derive_id(*parts: object) -> UUID:
    """Derive an id from `parts`: the same parts give the same id, live and in a replay."""
    return uuid5(NAMESPACE, ":".join(str(part) for part in parts))


def current() -> UUID | None:
    """Return the correlation id in the current context, if any."""
    return _current.get()


@contextmanager
def under(correlation_id: UUID | None) -> Iterator[None]:
    """Set the correlation id of logs, events and LLM traces inside this block."""
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)
