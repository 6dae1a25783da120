"""Close positions that their venue liquidated: each liquidation becomes a closing order of ours, once.

A position at a venue with margin may be closed by the venue. Its fills then belong to no order of ours, and account and
ledger differ. The liquidation becomes a closing order with the exit reason `liquidated`, which is settled and booked as
any other, so PnL, fees, pages and reports need nothing of their own.

A liquidation is adopted only where the account has one position in the symbol that is not closed; otherwise nobody can
say whose it was: staff is alerted (`liquidation.not_adopted`), and the difference stays.
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

import structlog
from django.db import transaction

from maxxit.core.errors import Rejected, StaleState
from maxxit.core.money import ZERO, brief, plain
from maxxit.core.terms import SIGN, Side
from maxxit.events.record import record
from positions.exits import at_venue
from positions.models import Position
from positions.states import PositionState
from trading.models import Order
from trading.passes import ends_the_pass
from trading.perps.liquidations import REASON, Liquidation, is_adopted, key_of, note_not_adopted
from trading.reconcile import VenueAccount
from trading.risk import limits
from trading.states import IN_FLIGHT
from trading.venues.base import Leg
from trading.wiring import liquidating_venues, venue

log = structlog.get_logger(__name__)

LIQUIDATED = "position.liquidated"
Holding = tuple[str, str, str]
"""(venue, account, symbol)"""


def adopt() -> int:
    """Adopt the liquidations that are not adopted yet; return how many.

    Only accounts are asked whose venue holds less of a symbol than their positions.
    """
    adopted = 0
    for (name, account), symbols in _short_of().items():
        try:
            found = venue(name).liquidations(account)
        except Exception as error:  # the next check asks again; no other account waits for it
            if ends_the_pass(error):
                raise
            log.warning("liquidations_not_read", venue=name, account=account, error=str(error))
            continue
        for one in found:
            if one.symbol in symbols and not is_adopted(name, account, one.ref):
                adopted += _tried(name, account, one)
    return adopted


def accounts() -> set[VenueAccount]:
    """Return the (venue, account) pairs with positions that are not closed at venues that liquidate."""
    return {(name, account) for name, account, _ in _claimed()}


def _tried(name: str, account: str, one: Liquidation) -> bool:
    """Adopt one; staff is alerted of one that fails, which is tried again by the next check, and stops no other."""
    try:
        return _adopt(name, account, one)
    except StaleState:  # an order of it moved meanwhile
        return False
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("liquidation_not_adopted", venue=name, account=account, error=str(error))
        note_not_adopted(name, account, one, str(error))
        return False


def _short_of() -> dict[tuple[str, str], set[str]]:
    """Return (venue, account) -> symbols of which the venue holds less than the account's positions."""
    claimed = _claimed()
    of_venue: defaultdict[str, set[str]] = defaultdict(set)
    for name, account, _ in claimed:
        of_venue[name].add(account)
    short: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, accounts in of_venue.items():
        try:
            balances = venue(name).balances_of(sorted(accounts))
        except Exception as error:
            if ends_the_pass(error):
                raise
            log.warning("venue_not_read", venue=name, error=str(error))
            continue
        for (of, account, symbol), quantity in claimed.items():
            if of == name and account in balances:
                held = balances[account].get(symbol, ZERO)
                if held * quantity < quantity * quantity:  # nearer to zero, or on the other side of it
                    short[name, account].add(symbol)
    return dict(short)


def _claimed() -> dict[Holding, Decimal]:
    """Return what positions that are not closed hold at venues with margin, in tokens; shorts are negative."""
    claimed: defaultdict[Holding, Decimal] = defaultdict(Decimal)
    names = liquidating_venues()
    if not names:
        return {}
    rows = Position.objects.exclude(state=PositionState.CLOSED).filter(entry_order__venue__in=names)
    for name, account, symbol, side, quantity, closed in rows.order_by("pk").values_list(
        "entry_order__venue", "entry_order__account", "symbol", "side", "quantity", "closed_quantity"
    ):
        claimed[name, account, symbol] += SIGN[side] * (quantity - closed)
    return {key: quantity for key, quantity in claimed.items() if quantity}


@transaction.atomic
def _adopt(name: str, account: str, one: Liquidation) -> bool:
    """Make a closing order of a liquidation; return whether it was made."""
    limits.lock([account], platform=False)  # no order of the account is reserved meanwhile
    if is_adopted(name, account, one.ref):
        return False
    position = _position_of(name, account, one)
    if position is None:
        return False
    entry = Order.objects.select_for_update(no_key=True).get(pk=position.entry_order_id)
    leg = Leg(one.ref, REASON, one.quantity, one.quantity, ended=True)
    at_venue.close_by(position, entry, key_of(entry.pk, one.number), leg)
    record(
        LIQUIDATED, position, owner_id=position.deployment.owner_id, severity="critical", account=account, venue=name,
        symbol=one.symbol, side=position.side, quantity=plain(one.quantity),
        text=(
            f"Liquidated: {name} closed {brief(one.quantity)} {one.symbol} ({position.side}) of {account}, because its "
            f"margin was used up. What it cost is on /trades/{position.pk}."
        ),
    )  # fmt: skip
    return True


def _position_of(name: str, account: str, one: Liquidation) -> Position | None:
    """Return the position that was liquidated, locked; None while an order of it is in flight.

    Raises Rejected where it is not clear which one it was.
    """
    rows: Sequence[Position] = list(
        Position.objects.select_for_update(of=("self",))
        .filter(entry_order__venue=name, entry_order__account=account, symbol=one.symbol)
        .exclude(state=PositionState.CLOSED)
        .select_related("exit_order", "deployment")
        .order_by("pk")
    )
    side = Side.LONG if one.sells else Side.SHORT
    if len(rows) != 1 or rows[0].side != side:
        held = ", ".join(f"{row.side} {row.pk}" for row in rows) or "none"
        raise Rejected(
            f"a {side} position in {one.symbol} was liquidated; the account's positions in it are: {held}. "
            "An operator has to book the difference"
        )
    [position] = rows
    in_flight = Order.objects.filter(account=account, symbol=one.symbol, state__in=IN_FLIGHT)
    return None if in_flight.exists() or not at_venue.is_free(position) else position
