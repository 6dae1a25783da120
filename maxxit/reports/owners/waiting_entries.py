"""Entries that wait for their owner's confirmation: size, price and exits as they would be if placed now."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import brief, plain
from maxxit.market.instruments import instrument
from positions.exits.levels import levels
from trading.models import Order
from trading.risk.checks import Facts
from trading.risk.facts import Entries
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import RiskPolicy
from trading.venues.base import VenueAnswer


@dataclass(frozen=True, slots=True)
class ExitLevel:
    """A price that closes the position."""

    price: Decimal
    """USD, in whole ticks."""
    pct: Decimal
    """Percent of the entry price, with the sign of the price's move: a long's stop is negative."""


@dataclass(frozen=True, slots=True)
class PlannedExits:
    """The exits of a position that is entered at `entry` now."""

    entry: Decimal
    """USD."""
    stop_loss: ExitLevel
    take_profit: ExitLevel
    trailing_activation: ExitLevel | None
    """From here on the stop follows the price at `trailing_pct` percent; None where the preset has no trailing stop."""
    trailing_pct: Decimal | None
    time_exit_at: datetime
    max_holding_minutes: int


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """An entry that waits for confirmation, as it would be placed now."""

    order: Order
    price: Decimal | None
    """The newest usable quote, USD; None without one."""
    quantity: Decimal | None
    """Tokens in whole lots; None where no size can be computed now."""
    notional_usd: Decimal | None
    capital_usd: Decimal | None
    """The account's equity, USD."""
    exits: PlannedExits | None
    """None without a price."""

    @property
    def capital_share(self) -> Decimal | None:
        """The notional as a fraction of the equity."""
        if not self.capital_usd or self.capital_usd < 0 or self.notional_usd is None:
            return None
        return self.notional_usd / self.capital_usd

    @property
    def action(self) -> str:
        """What confirming does: `Buy 0.75 ETH, about 1,500 USD`."""
        side = self.order.side.capitalize()
        if not self.quantity or self.notional_usd is None:
            return f"{side} {self.order.symbol}"
        return f"{side} {brief(self.quantity)} {self.order.symbol}, about {self.notional_usd:,.2f} USD"

    def as_json(self) -> dict[str, Any]:
        """For the API and `--json`: amounts as strings, times in UTC."""
        order, signal, exits = self.order, self.order.signal, self.exits
        return {
            "order_id": order.pk,
            "deployment_id": order.deployment_id,
            "agent": order.deployment.agent.name,
            "account": order.account,
            "symbol": order.symbol,
            "side": order.side,
            "signal_id": order.signal_id,
            "confidence": plain(signal.confidence) if signal else None,
            "signal_price": plain(signal.entry_price) if signal else None,
            "price": _plain(self.price),
            "quantity": _plain(self.quantity),
            "notional_usd": _plain(self.notional_usd),
            "capital_usd": _plain(self.capital_usd),
            "capital_share": None if self.capital_share is None else f"{self.capital_share:.6f}",
            "exits": None
            if exits is None
            else {
                "entry_price": plain(exits.entry),
                "stop_loss": _level(exits.stop_loss),
                "take_profit": _level(exits.take_profit),
                "trailing_activation": _level(exits.trailing_activation),
                "trailing_pct": _plain(exits.trailing_pct),
                "time_exit_at": iso_utc(exits.time_exit_at),
                "max_holding_minutes": exits.max_holding_minutes,
            },
            "review": {name: order.verdict[name] for name in ("measured", "limit")}
            if order.verdict
            else None,
            "created_at": iso_utc(order.created_at),
            "expires_at": iso_utc(signal.expires_at) if signal else None,
        }


def waiting_entries(orders: Sequence[Order]) -> list[WaitingEntry]:
    """Return waiting entries with the size, price and exits that they would have now, in their order.

    Load them with `confirmation.waiting`. Each is sized as if it were placed alone with what its account holds now;
    limits and the other entries may make it smaller or block it. The number of statements depends on the venues.
    """
    policy = protective_limits()
    by_venue: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        by_venue[order.venue].append(order)
    entries: dict[int, WaitingEntry] = {}
    for venue, of_venue in by_venue.items():
        facts = Entries.read(of_venue, venue, policy)
        for order in of_venue:
            entries[order.pk] = _entry(order, facts.of(order, VenueAnswer()), policy)
    return [entries[order.pk] for order in orders]


def _entry(order: Order, facts: Facts, policy: RiskPolicy) -> WaitingEntry:
    known = facts.price is not None and facts.spendable_usd is not None
    return WaitingEntry(
        order,
        facts.price,
        facts.quantity if known else None,
        facts.notional_usd if known else None,
        facts.spendable_usd,
        _exits(order, facts.price, policy) if facts.price is not None else None,
    )


def _exits(order: Order, entry: Decimal, policy: RiskPolicy) -> PlannedExits | None:
    """Return the exits of a position entered at `entry` (USD) now, by the rule that books positions."""
    if order.signal is None:
        return None
    rules = policy.exits[order.deployment.agent.exit_preset]  # type: ignore[index]  # the column's choices
    planned = levels(
        rules,
        side=order.position_side,
        entry=entry,
        opened_at=clock.now(),
        stop_loss_pct=order.signal.stop_loss_pct,
        take_profit_pct=order.signal.take_profit_pct,
    )

    def level(price: Decimal) -> ExitLevel:
        return ExitLevel(instrument(order.symbol).round_price(price), (price / entry - 1) * 100)

    activation = planned.trailing_activation
    return PlannedExits(
        entry,
        level(planned.stop_loss),
        level(planned.take_profit),
        None if activation is None else level(activation),
        planned.trailing_pct,
        planned.time_exit_at,
        rules.max_holding_minutes,
    )


def _level(level: ExitLevel | None) -> dict[str, str] | None:
    return None if level is None else {"price": plain(level.price), "pct": f"{level.pct:.4f}"}


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)
