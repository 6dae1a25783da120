"""What one trade would have become under other settings of its agent, on the stored five-minute closes.

The decision is made again on what is stored with the signal, the exit is found by the rules of the exits sweep. The
entry, its price and the account are those of the real trade, so that the settings are all that differs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

import numpy as np

from maxxit.backtest.exits import PriceTrack, decimals_of, find_exit
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, usdc
from maxxit.core.terms import SIGN
from maxxit.market.feeds.bars import BAR
from maxxit.market.instruments import instrument
from maxxit.market.models import Candle
from positions.exits.levels import levels
from positions.models import Position
from signals_app import decision_inputs
from signals_app.models import Signal
from signals_app.score import Declined
from signals_app.size import size_model
from trading.risk.limits_in_force import risk_limits
from trading.risk.policy import Exits

HUNDRED = Decimal(100)


@dataclass(frozen=True)
class Changes:
    """Other settings; None keeps the one of the trade."""

    exit_preset: str | None = None
    sizing_preset: str | None = None
    min_confidence: Decimal | None = None
    """Fraction."""
    stop_loss_pct: Decimal | None = None
    take_profit_pct: Decimal | None = None
    price_band_pct: Decimal | None = None
    """Largest distance of the entry's quote from the signal's price."""


@dataclass(frozen=True)
class Outcome:
    """What the trade became."""

    refused: str = ""
    """Why it would not have been entered; empty where it would."""
    quantity: Decimal = ZERO
    """Tokens."""
    stop_loss: Decimal = ZERO
    """USD."""
    take_profit: Decimal = ZERO
    """USD."""
    closed_at: datetime | None = None
    """None: still open at the last close."""
    exit_price: Decimal | None = None
    """USD; the last close of a position that is still open."""
    reason: str = ""
    pnl: Decimal = ZERO
    """USDC after fees at the rate of the real trade, before a profit share."""


@dataclass(frozen=True)
class WhatIf:
    """The same trade three times: as it was, on five-minute closes, and on these with other settings."""

    position: Position
    same: Outcome
    """With the settings of today's presets by which it was traded: how far closes alone give what happened."""
    changed: Outcome


class Closes:
    """The stored five-minute closes of one symbol from a moment on, up to the first after another."""

    def __init__(self, symbol: str, since: datetime, until: datetime) -> None:
        bars = Candle.objects.filter(symbol=symbol, open_time__gt=since - BAR).order_by("open_time")
        after = bars.filter(open_time__gte=until - BAR).values_list("open_time", flat=True).first()
        if after is not None:
            bars = bars.filter(open_time__lte=after)
        self.symbol = symbol
        self.rows = [(opened + BAR, close) for opened, close in bars.values_list("open_time", "close")]

    @cached_property
    def decimals(self) -> int:
        """The most decimals of any close, or of the tick."""
        numbers = [close for _, close in self.rows] + [instrument(self.symbol).tick]
        return max(map(decimals_of, numbers))

    @cached_property
    def track(self) -> PriceTrack:
        """The closes as the exits kernel takes them; a place is the number of the close."""
        times = [int(at.timestamp()) for at, _ in self.rows]
        units = [int(close.scaleb(self.decimals)) for _, close in self.rows]
        return PriceTrack(
            self.symbol,
            self.decimals,
            np.arange(len(times)),
            np.array(times, np.int64),
            np.array(units, np.int64),
        )


def what_if(position: Position, changes: Changes) -> WhatIf:
    """Return what the trade would have become.

    Raises Rejected where its signal does not hold what the decision used, or no close is stored since its entry.
    """
    signal = position.signal
    if signal is None or "inputs" not in signal.risk_model:
        raise Rejected(
            "this trade cannot be decided again: its signal does not hold what the decision used",
            code="no_inputs",
        )
    longest = max(rules.max_holding_minutes for rules in risk_limits().exits.values())
    until = position.opened_at + timedelta(minutes=longest)
    closes = Closes(position.symbol, position.opened_at, until)
    if not closes.rows:
        raise Rejected("no five-minute candle is stored since its entry yet", code="no_candles")
    return WhatIf(
        position, _outcome(position, signal, closes, Changes()), _outcome(position, signal, closes, changes)
    )


def _outcome(position: Position, signal: Signal, closes: Closes, changes: Changes) -> Outcome:
    limits = risk_limits()
    decided = _decide(signal, changes)
    if isinstance(decided, Declined):
        measured = f": {decided.measured}, limit {decided.limit}" if decided.measured else ""
        return Outcome(refused=f"no signal ({decided.reason}{measured})")
    stop_pct, take_pct = decided
    quote = position.entry_order.reference_price or position.entry_price
    distance = abs(quote - signal.entry_price) / signal.entry_price * HUNDRED
    if changes.price_band_pct is not None and distance > changes.price_band_pct:
        return Outcome(refused=f"blocked (price_band: {distance:.2f} %, limit {changes.price_band_pct:f} %)")
    preset = changes.exit_preset or position.deployment.agent.exit_preset
    rules: Exits = limits.exits[preset]  # type: ignore[index]  # the column's choices
    step = instrument(position.symbol)
    set_levels = levels(
        rules,
        side=position.side,
        entry=position.entry_price,
        opened_at=position.opened_at,
        stop_loss_pct=stop_pct,
        take_profit_pct=take_pct,
    ).columns(step.round_price)
    quantity = step.round_quantity(position.quantity * _size(signal, changes))
    found = find_exit(closes.track, position.side, 0, set_levels)
    at, price = closes.rows[found.place] if found else closes.rows[-1]
    return Outcome(
        quantity=quantity,
        stop_loss=set_levels["stop_loss"],
        take_profit=set_levels["take_profit"],
        closed_at=at if found else None,
        exit_price=price,
        reason=found.reason if found else "",
        pnl=_pnl(position, quantity, price),
    )


def _decide(signal: Signal, changes: Changes) -> Declined | tuple[Decimal, Decimal]:
    """Return the signal's stop loss and take profit in percent, or why there is no signal."""
    model = signal.risk_model
    of_agent = dict(model["inputs"]["limits"])
    for name in ("min_confidence", "stop_loss_pct", "take_profit_pct"):
        if (value := getattr(changes, name)) is not None:
            of_agent[name] = f"{value:f}"
    inputs = model["inputs"] | {"limits": of_agent}
    decision = decision_inputs.decide_again(inputs, model["weights"], signal.indicators)
    if isinstance(decision, Declined):
        return decision
    stop = signal.stop_loss_pct if changes.stop_loss_pct is None else decision.stop_loss_pct
    take = signal.take_profit_pct if changes.take_profit_pct is None else decision.take_profit_pct
    return stop, take


def _size(signal: Signal, changes: Changes) -> Decimal:
    """Return how many times the size of the trade another sizing preset gives."""
    recorded = signal.size_model
    if changes.sizing_preset is None or not Decimal(recorded.get("size", 0)):
        return Decimal(1)
    other = size_model(
        changes.sizing_preset, signal.confidence, int(recorded["posts"]), recorded.get("volatility")
    )
    return Decimal(other["size"]) / Decimal(recorded["size"])


def _pnl(position: Position, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the PnL in USDC with the fees of the real trade, in proportion to what is traded."""
    earned = SIGN[position.side] * (price - position.entry_price) * quantity
    last = position.exit_price or position.entry_price
    traded = position.quantity * (position.entry_price + (last if position.state == "closed" else ZERO))
    rate = position.fees / traded if traded else ZERO
    return usdc(earned - rate * quantity * (position.entry_price + price))
