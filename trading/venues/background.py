"""Mark reads that can wait: they get a share of a venue's rate limit, and what must be read now has the rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_in_background = ContextVar("in_background", default=False)


@contextmanager
def reads() -> Iterator[None]:
    """Let what is read inside this block, also in threads that it starts, count as read in the background."""
    token = _in_background.set(True)
    try:
        yield
    finally:
        _in_background.reset(token)


def is_on() -> bool:
    """Return whether what is read now can wait."""
    return _in_background.get()
