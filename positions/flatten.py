"""Report the positions that a latched kill switch of level flatten has not closed, and why."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading import gate, passes, quarantine
from trading.models import KillSwitch
from trading.risk import checks

LISTED = 200
"""Positions listed in one event; its count is always complete."""

COVERED_POSITIONS = """
SELECT k.id, p.id, p.symbol, e.venue, e.account, p.state, p.exit_retry_at, x.state, x.reason, x.attempts, x.created_at
FROM kill_switches k
CROSS JOIN positions p
JOIN orders e ON e.id = p.entry_order_id
LEFT JOIN orders x ON x.id = p.exit_order_id
WHERE k.released_at IS NULL AND k.level = 'flatten' AND k.account IN ('', e.account) AND p.state IN ('open', 'closing')
ORDER BY k.id, p.id
"""


@dataclass(frozen=True, slots=True)
class Unclosed:
    """A position that a flatten covers and that cannot be closed now."""

    position: int
    symbol: str
    venue: str
    account: str
    reason: str


def unclosed() -> list[Unclosed]:
    """Return each position that a latched flatten covers and that cannot be closed now, with the reason.

    Positions whose closing order is in progress, or about to be written, are not included.
    """
    return list({one.position: one for found in _by_switch().values() for one in found}.values())


LATCHED = "SELECT EXISTS (SELECT FROM kill_switches WHERE released_at IS NULL AND level = 'flatten')"


def report() -> None:
    """Record `flatten.unclosed` for each latched flatten whose unclosed positions or reasons changed."""
    with connection.cursor() as cursor:
        cursor.execute(LATCHED)
        [latched] = cursor.fetchone()
    if not latched:
        return
    for pk, positions in _by_switch().items():
        data = {"count": len(positions), "positions": [asdict(position) for position in positions[:LISTED]]}
        switch = KillSwitch(pk=pk)
        before = Event.objects.filter(name="flatten.unclosed", subject=subject(switch)).order_by("pk").last()
        if before is None or before.data != data:
            record("flatten.unclosed", switch, **data)


def _by_switch() -> dict[int, list[Unclosed]]:
    """Return kill switch id -> the positions that it covers and that cannot be closed now."""
    with connection.cursor() as cursor:
        cursor.execute(COVERED_POSITIONS)
        rows = cursor.fetchall()
    gate_reasons = {venue: gate_reason(venue) for venue in {row[3] for row in rows}}
    found: dict[int, list[Unclosed]] = defaultdict(list)
    for switch, position, symbol, venue, account, *exit_order in rows:
        if reason := gate_reasons[venue] or _blocking_reason(exit_order):
            found[switch].append(Unclosed(position, symbol, venue, account, reason))
    return found


def gate_reason(venue: str) -> str:
    """Return why the gate blocks closing orders of the venue; empty if it does not."""
    return checks.gate_verdict(gate.read(venue), reduces=True).reason


def _blocking_reason(exit_order: Sequence[Any]) -> str:
    """Return why a position at an open venue is not closed: its closing order was refused, fails, or is late."""
    position_state, retry_at, order_state, order_reason, attempts, created_at = exit_order
    now = clock.now()
    if position_state == "open":
        return (order_reason or order_state) if retry_at is not None and retry_at > now else ""
    if attempts >= quarantine.TRIES:
        return "quarantined"
    late = timedelta(seconds=passes.policy().exits.late_seconds)
    return f"still {order_state}" if now - created_at > late else ""
