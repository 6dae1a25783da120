"""Warn owners and staff once when a position with margin comes near its liquidation.

Near is by what the position can still lose before it is liquidated, in percent of its initial margin
(`liquidation_warning` of config/risk.yaml). A second, higher threshold ends the warning, so that a price at the edge is
told once.
"""

from decimal import Decimal
from enum import StrEnum

from django.db import transaction
from django.db.models import QuerySet

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.money import brief, plain
from maxxit.events.record import record
from positions.margins import attach
from positions.models import Position
from positions.states import PositionState
from trading.perps.margin import MarginFacts, any_margin
from trading.perps.models import MarginPosition
from trading.perps.rules import LiquidationWarning
from trading.risk.limits_in_force import protective_limits

NEAR = "liquidation.near"


class Step(StrEnum):
    """What a look at a position says."""

    WARN = "warn"
    CLEAR = "clear"
    NOTHING = "nothing"


def decide(room: Decimal | None, *, warned: bool, rules: LiquidationWarning) -> Step:
    """Return whether to warn of a position, or to end its warning. Pure function.

    Args:
        room: what it can still lose, a fraction of its initial margin; None where that is not known.
    """
    if room is None:
        return Step.NOTHING
    if not warned and room * 100 <= rules.room_pct:
        return Step.WARN
    return Step.CLEAR if warned and room * 100 >= rules.clear_pct else Step.NOTHING


def warn() -> int:
    """Warn of the positions that have come near their liquidation; return how many.

    Their figures are those that the venues reported last, at the newest quotes.
    """
    rules, warned = protective_limits().liquidation_warning, 0
    for position in _with_margin():
        facts = position.margin
        if facts is None:
            continue
        step = decide(facts.room, warned=facts.warned_at is not None, rules=rules)
        if step == Step.WARN:
            warned += _warn(position, facts)
        elif step == Step.CLEAR:
            _row(position).update(warned_at=None)
    return warned


def least_rooms() -> dict[str, Decimal]:
    """Return account -> what its position nearest to liquidation can still lose, a fraction of its initial margin."""
    least: dict[str, Decimal] = {}
    for position in _with_margin():
        room = position.margin.room if position.margin else None
        account = position.entry_order.account
        if room is not None and (account not in least or room < least[account]):
            least[account] = room
    return least


def _with_margin() -> list[Position]:
    if not any_margin():
        return []
    rows = Position.objects.exclude(state=PositionState.CLOSED).filter(
        entry_order__account__in=MarginPosition.objects.values("account")
    )
    found = attach(rows.select_related("entry_order", "deployment").order_by("pk"))
    return [position for position in found if position.margin and position.margin.held]


def _row(position: Position) -> QuerySet[MarginPosition]:
    entry = position.entry_order
    return MarginPosition.objects.filter(venue=entry.venue, account=entry.account, symbol=position.symbol)


@transaction.atomic
def _warn(position: Position, facts: MarginFacts) -> int:
    """Mark the position and record the event; 0 where another worker did."""
    if not _row(position).filter(warned_at=None).update(warned_at=clock.now()):
        return 0
    deployment: Deployment = position.deployment
    record(
        NEAR, position, owner_id=deployment.owner_id, severity="critical", account=deployment.account,
        venue=position.entry_order.venue, symbol=position.symbol, side=position.side, **_figures(facts),
        text=text_of(position, facts),
    )  # fmt: skip
    return 1


def _figures(facts: MarginFacts) -> dict[str, str]:
    shown = facts.as_json()
    names = ("liquidation_price", "margin_ratio_pct", "room_pct", "leverage")
    return {name: str(shown[name]) for name in names} | {"price": plain(facts.price or Decimal(0))}


def text_of(position: Position, facts: MarginFacts) -> str:
    """Return the warning as a message: what is near, by which figures, and what can be done."""
    room, level, price = (
        facts.room or Decimal(0),
        facts.liquidation_price or Decimal(0),
        facts.price or Decimal(0),
    )
    ratio = "" if facts.ratio is None else f", margin ratio {facts.ratio * 100:.0f} %"
    return (
        f"Liquidation near: {position.side} {position.symbol} of {position.entry_order.account} at "
        f"{position.entry_order.venue} is at {brief(price)} USD and is liquidated at {brief(level)} USD{ratio}. It can "
        f"lose {max(room, Decimal(0)) * 100:.0f} % of its margin before that; a liquidation takes what is left of the "
        f"margin. Close the position (/trades/{position.pk}), or add margin at the venue."
    )
