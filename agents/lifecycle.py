"""Move agents and deployments along their transition tables, for customers, operators and commands alike."""

from collections.abc import Iterable
from typing import Any

from agents.models import Agent, Deployment
from maxxit.core.errors import Rejected, StaleState
from maxxit.events.record import advance


def change_state(row: Agent | Deployment, state: str, *, by: str, why: str = "") -> bool:
    """Move `row` to `state`, and return whether it was in another one before.

    Asking twice is no error. Raises Rejected (`not_allowed_now`) where the transition table forbids it, StaleState
    where somebody else was first.

    Args:
        by: who asks, for the event log.
        why: on which way they ask: admin, api, command or page.
    """
    if row.state == state:
        return False
    allowed = row.MOVES.get(row.state, frozenset())  # type: ignore[call-overload]
    if state not in allowed:
        kind = row._meta.verbose_name
        choice = f"it can become {' or '.join(sorted(allowed))}" if allowed else "that is final"
        raise Rejected(
            f"{kind} {row.pk} ({row}) is {row.state} and cannot become {state}: {choice}",
            code="not_allowed_now",
        )
    advance(row, state, why=why, data={"by": by})
    return True


def change_states(
    rows: Iterable[Any], state: str, *, by: str, why: str = ""
) -> tuple[list[Any], dict[Any, str]]:
    """Move each of `rows` to `state`; return those that moved, and row -> why the others could not."""
    moved, refused = [], {}
    for row in rows:
        try:
            if change_state(row, state, by=by, why=why):
                moved.append(row)
            else:
                refused[row] = f"it is {state} already"
        except (Rejected, StaleState) as error:
            refused[row] = str(error)
    return moved, refused
