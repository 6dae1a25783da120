"""Read what the owners of many deployments decided about their entries, in one statement."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from django.db import connection

from maxxit.core.money import ZERO
from maxxit.market.instruments import all_instruments
from trading.models import Order
from trading.risk.checks import OwnerTerms
from trading.states import IN_FLIGHT

TERMS = """
SELECT d.id, d.state = 'active', d.confirm_entries, d.max_daily_usd, d.max_position_usd, d.max_open_positions,
       CASE WHEN d.max_daily_usd IS NULL THEN 0 ELSE coalesce((
           SELECT sum(CASE WHEN o.state = ANY(%(in_flight)s) THEN o.notional_usd
                           ELSE o.filled_quantity * coalesce(o.average_price, 0) END)
           FROM orders o
           WHERE o.account = d.account AND o.symbol = ANY(%(symbols)s) AND o.reserved_at >= %(midnight)s
             AND o.purpose = 'open' AND o.deployment_id = d.id
       ), 0) END
FROM agent_deployments d WHERE d.id = ANY(%(deployments)s)
"""
"""The symbols let the index on (account, symbol, reserved_at) find the orders of the day."""


@dataclass
class OwnersTerms:
    """The owners' decisions, and what the batch has reserved so far."""

    by_deployment: dict[int, OwnerTerms] = field(default_factory=dict)
    asking: set[int] = field(default_factory=set)
    """Deployments whose owner confirms each entry."""

    def of(self, order: Order, held: Mapping[str, Decimal]) -> OwnerTerms | None:
        """Return the terms for one entry; None where its deployment was not read.

        Args:
            held: symbol -> tokens that the account holds, entries in flight included.
        """
        terms = self.by_deployment.get(order.deployment_id)
        if terms is None:
            return None
        others = sum(
            1 for symbol, tokens in held.items() if symbol != order.symbol and _counts(symbol, tokens)
        )
        confirmed = order.deployment_id not in self.asking or order.confirmed_at is not None
        return replace(terms, confirmed=confirmed, other_positions=others)

    def add_entry(self, order: Order, usd: Decimal) -> None:
        """Count an entry of `usd` that was reserved just now."""
        terms = self.by_deployment[order.deployment_id]
        self.by_deployment[order.deployment_id] = replace(
            terms, entered_today_usd=terms.entered_today_usd + usd
        )


def _counts(symbol: str, tokens: Decimal) -> bool:
    """Return whether an account holds a token: at least one lot, the least that can be sold."""
    token = all_instruments().get(symbol)
    return bool(token.round_quantity(abs(tokens)) if token else tokens)


def read(deployments: Iterable[int], now: datetime) -> OwnersTerms:
    """Return the terms of deployments by id; a day is a UTC day."""
    found = OwnersTerms()
    with connection.cursor() as cursor:
        cursor.execute(
            TERMS,
            {
                "deployments": list(dict.fromkeys(deployments)),
                "in_flight": list(IN_FLIGHT),
                "symbols": list(all_instruments()),
                "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
            },
        )
        for pk, active, asks, daily, position, tokens, entered in cursor.fetchall():
            found.by_deployment[pk] = OwnerTerms(
                active=active,
                max_daily_usd=daily,
                max_position_usd=position,
                max_open_positions=tokens,
                entered_today_usd=entered or ZERO,
            )
            if asks:
                found.asking.add(pk)
    return found
