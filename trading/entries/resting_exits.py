"""Read what venues keep of the exits of entries: their stops and targets (`Capabilities.resting_exits`).

An entry is sent with `exits_at_venue` resting. While it is, `trading.execute` reserves no closing order of ours for it,
so that the venue's exit and ours never both fill. It becomes ended on evidence only: the venue says that each of its
exits has ended, and what they filled was adopted as closing orders of ours (`positions.exits.at_venue`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal

import structlog

from maxxit.core.errors import Retryable
from maxxit.core.money import CASH
from maxxit.core.terms import SIGN, Purpose
from maxxit.market.instruments import instrument
from trading.models import ExitsAtVenue, Order
from trading.passes import ends_the_pass
from trading.risk.policy import RiskPolicy
from trading.venues.base import Leg
from trading.wiring import batch_size, venue

log = structlog.get_logger(__name__)

Exits = tuple[Leg, ...] | Exception
"""The exits that a venue keeps for an entry, or why they are not known."""
KEY = "leg:"
"""How the idempotency key of an adopted exit begins."""
LEFT_OUT = Retryable("the venue's answer leaves it out")


def of_entries(closing_orders: Sequence[Order]) -> frozenset[int]:
    """Return the ids of the entries, among those that these orders close, whose exits rest at their venue."""
    entries = [order.closes_id for order in closing_orders if order.closes_id is not None]
    rows = Order.objects.filter(pk__in=entries, exits_at_venue=ExitsAtVenue.RESTING) if entries else None
    return frozenset() if rows is None else frozenset(rows.order_by().values_list("pk", flat=True))


def key_of(entry_id: int, leg: Leg) -> str:
    """Return the idempotency key of the closing order that an exit of the venue becomes: one for each kind."""
    return f"{KEY}{entry_id}:{leg.reason}"


def prices(order: Order, policy: RiskPolicy, price: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Return the stop and the target of an entry at `price` (USD), in whole ticks, for a venue that keeps them.

    They follow the quote, because the entry price is not known yet; the position's own levels follow its fills. None
    for a closing order, and for a price that rounds to zero.
    """
    if order.purpose != Purpose.OPEN or order.signal is None:
        return None, None
    rules = policy.exits[order.deployment.agent.exit_preset]  # type: ignore[index]  # the column's choices
    sign, rounded = SIGN[order.position_side], instrument(order.symbol).round_price
    stop = rounded(price * (1 - sign * rules.stop_pct(order.signal.stop_loss_pct) / 100))
    target = rounded(price * (1 + sign * rules.target_pct(order.signal.take_profit_pct) / 100))
    return (stop if stop > 0 else None), (target if target > 0 else None)


def read(entries: Sequence[Order]) -> dict[int, Exits]:
    """Ask the venues of these entries; return entry -> its exits there, or why they are not known. Raises for none."""
    exits: dict[int, Exits] = {}
    for name, batch in _batches(entries):
        try:
            answers = venue(name).exits([entry.venue_ref for entry in batch])
        except Exception as error:
            if ends_the_pass(error):
                raise
            exits |= {entry.pk: error for entry in batch}
        else:
            exits |= {entry.pk: answers.get(entry.venue_ref, LEFT_OUT) for entry in batch}
    failed = {pk: answer for pk, answer in exits.items() if isinstance(answer, Exception)}
    if failed:
        pk, first = next(iter(failed.items()))
        log.warning("exits_not_read", orders=len(failed), order=pk, error=str(first))
    return exits


def _batches(entries: Sequence[Order]) -> Iterator[tuple[str, list[Order]]]:
    of_venue: defaultdict[str, list[Order]] = defaultdict(list)
    for entry in entries:
        of_venue[entry.venue].append(entry)
    for name, rows in of_venue.items():
        size = batch_size(name)
        for start in range(0, len(rows), size):
            yield name, rows[start : start + size]


def not_adopted(accounts: Collection[str]) -> set[tuple[str, str]]:
    """Return every (account, asset) that an exit at the venue may have changed without an order of ours.

    For comparisons of balances: an exit that filled a moment ago is no unexplained difference.
    """
    entries = list(
        Order.objects.filter(account__in=accounts, exits_at_venue=ExitsAtVenue.RESTING).order_by("pk")
    )
    exits = read(entries)
    unsure: list[Order] = []
    filled: dict[str, Order] = {}
    for entry in entries:
        legs = exits[entry.pk]
        if isinstance(legs, Exception):
            unsure.append(entry)
        else:
            filled |= {key_of(entry.pk, leg): entry for leg in legs if leg.filled}
    adopted = set(Order.objects.filter(idempotency_key__in=filled).values_list("idempotency_key", flat=True))
    unsure += [entry for key, entry in filled.items() if key not in adopted]
    return {(entry.account, asset) for entry in unsure for asset in (entry.symbol, *CASH)}
