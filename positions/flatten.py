"""What the kill switch's flatten has not closed, and why."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.terms import KillLevel
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading import gate, passes, quarantine, risk
from trading.models import KillSwitch

LISTED = 200
"""Positions that one event names; it always counts all."""

LEFT = """
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
    """A position that a flatten covers and that does not leave."""

    position: int
    symbol: str
    venue: str
    account: str
    reason: str


def unclosed() -> list[Unclosed]:
    """Every position that a latched flatten covers and that cannot leave now, with the reason; each once.

    One that nothing is known to hold back is not among them: its closing order is on its way, or about to be.
    """
    return list({one.position: one for found in _by_switch().values() for one in found}.values())


def report() -> None:
    """Record `flatten.unclosed` for each latched flatten whose open positions, or their reasons, are new."""
    if not KillSwitch.objects.filter(released_at=None, level=KillLevel.FLATTEN).exists():
        return
    for pk, found in _by_switch().items():
        told = {"count": len(found), "positions": [asdict(one) for one in found[:LISTED]]}
        switch = KillSwitch(pk=pk)
        before = Event.objects.filter(name="flatten.unclosed", subject=subject(switch)).order_by("pk").last()
        if before is None or before.data != told:
            record("flatten.unclosed", switch, **told)


def _by_switch() -> dict[int, list[Unclosed]]:
    """Switch -> what it covers and does not close."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT)
        rows = cursor.fetchall()
    shut = {venue: _shut(venue) for venue in {row[3] for row in rows}}
    found: dict[int, list[Unclosed]] = defaultdict(list)
    for switch, position, symbol, venue, account, *exit_order in rows:
        if reason := shut[venue] or _held_back(exit_order):
            found[switch].append(Unclosed(position, symbol, venue, account, reason))
    return found


def _shut(venue: str) -> str:
    """Why the gate lets no closing order of the venue leave, or empty."""
    return risk.gate_verdict(gate.read(venue), reduces=True).reason


def _held_back(exit_order: Sequence[Any]) -> str:
    """Why a position at an open venue does not leave: its last closing order was refused, fails, or is late."""
    position_state, retry_at, order_state, order_reason, attempts, created_at = exit_order
    now = clock.now()
    if position_state == "open":
        return (order_reason or order_state) if retry_at is not None and retry_at > now else ""
    if attempts >= quarantine.TRIES:
        return "quarantined"
    late = timedelta(seconds=passes.policy().exits.late_seconds)
    return f"still {order_state}" if now - created_at > late else ""
