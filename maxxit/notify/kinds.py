"""Kinds of notifications that customers choose, and which events pass quiet hours."""

from dataclasses import dataclass

from maxxit.core.errors import Rejected

TESTS = ("notification.tested", "rule.tested")
"""Events of test messages: one delivery, to the channel that was tested."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A group of events that a customer wants to be told about, or not."""

    title: str
    events: tuple[str, ...]


KINDS = {
    "stops": Kind(
        "An account of yours is stopped, or released",
        ("kill_switch.pulled", "kill_switch.released", "safe.entries_stopped"),
    ),
    "confirmations": Kind("An entry waits for your confirmation", ("order.awaiting_confirmation",)),
    "limits": Kind("A risk limit or fee of the platform changes", ("limits.changed",)),
}
"""Name -> kind. All are sent unless the user chose fewer; the inbox holds every one."""
FOR_OWNERS = KINDS["confirmations"].events
"""Events that only the user whom they name as `owner_id` hears of: staff need not act on them."""
CRITICAL = frozenset(
    {
        "kill_switch.pulled",
        "safe.entries_stopped",
        "flatten.unclosed",
        "reconcile.unexplained",
        "books.differ",
        *TESTS,
    }
)
"""Events that are sent in quiet hours too."""


def check(names: list[str]) -> list[str]:
    """Return the names sorted, each once. Raises Rejected for an unknown kind."""
    if unknown := sorted(set(names) - set(KINDS)):
        raise Rejected(
            f"no kind of notification {', '.join(unknown)!r}; known: {', '.join(KINDS)}", code="unknown_kind"
        )
    return sorted(set(names))


def title(event: str) -> str:
    """Return the title of an event's kind; the event's name in words where it belongs to none."""
    named = (kind.title for kind in KINDS.values() if event in kind.events)
    return next(named, event.replace("_", " ").replace(".", " "))
