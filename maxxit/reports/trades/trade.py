"""One trade in six steps (post, reading, signal, order, fill, result), with the money of each, costs and levels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q

from agents.decisions import Deciders
from maxxit.access.rows import Person, sees_all, visible
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, brief, plain
from maxxit.core.terms import OrderSide
from maxxit.events.models import Event
from maxxit.events.record import subject
from maxxit.llm.models import LlmTrace
from maxxit.market import quotes
from maxxit.market.models import Candle, Quote
from maxxit.reports.activity.rows import Post, decision_of, post_of
from maxxit.reports.trades.reasons import explain
from maxxit.reports.trades.trace import read_by
from positions.costs import Costs, read_costs
from positions.models import Position
from positions.performance import pnl
from signals_app.evidence.effects import SCALE, effects
from signals_app.forecast_use.forecasts_used import forecasts_used
from signals_app.models import CtPost, Signal
from trading.models import Fill, JournalKind, LedgerEntry, Order
from trading.perps.margin import MarginFacts, facts_of

CLOSING_ORDERS = 50
"""Of a position: a refused exit is tried again every few minutes."""
EVENTS = 300


@dataclass(frozen=True, slots=True)
class Slippage:
    """What an order cost against the quote that it was checked with."""

    order_id: int
    purpose: str
    reference: Decimal
    """The quote at the decision, USD."""
    price: Decimal
    """Average of the fills, USD."""
    usd: Decimal
    """Positive: worse than the quote."""


@dataclass(frozen=True, slots=True)
class Charges:
    """What a trade has cost so far."""

    venue_fee: Decimal
    """USDC."""
    platform_fee: Decimal
    """USDC."""
    profit_share: Decimal
    """USDC; due when the position closes with a profit."""
    slippage: list[Slippage]
    gas: dict[str, Decimal]
    """Coin -> amount that the platform's executor paid."""

    @property
    def slippage_usd(self) -> Decimal:
        """USD over all orders; positive: worse than the quotes."""
        return sum((row.usd for row in self.slippage), ZERO)

    @property
    def total(self) -> Decimal:
        """USDC: fees and profit share. Slippage is part of the prices already, gas is the platform's."""
        return self.venue_fee + self.platform_fee + self.profit_share


@dataclass(frozen=True, slots=True)
class Now:
    """An open position at the newest quote."""

    price: Decimal
    """USD."""
    at: datetime
    usable: bool
    """Fresh enough to close at."""
    quantity: Decimal
    """Tokens that are left."""
    value: Decimal
    """USD."""
    pnl: Decimal
    """USDC after the fees so far, with what was realised, before a profit share and the fees of closing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the trade on the chart."""

    what: str
    """POST, ENTRY or EXIT."""
    at: datetime
    price: Decimal | None
    text: str


@dataclass(frozen=True, slots=True)
class Detail:
    """Something of a step that is folded away: a prompt, an answer, an event."""

    title: str
    text: str


@dataclass(slots=True)
class Step:
    """One step of a trade."""

    name: str
    """post, reading, signal, order, fill or result."""
    title: str
    at: datetime | None
    money: str
    """The money of the step in a few words; empty where it has none."""
    lines: list[str] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TradeFigures:
    """A position with its result now: what the trade page refreshes."""

    position: Position
    now: Now | None
    """None for a closed position, and where the token has no quote."""
    margin: MarginFacts | None
    """None at a venue without margin."""

    @property
    def result(self) -> Decimal | None:
        """USDC: realised after fees and profit share; of an open position at the newest quote after fees so far."""
        if self.position.state == "closed":
            return self.position.net
        return self.now.pnl if self.now else None

    @property
    def with_funding(self) -> Decimal | None:
        """USDC: the result and the funding, which is a ledger line of its own; the result alone without margin."""
        funding = self.margin.funding if self.margin else ZERO
        return None if self.result is None else self.result + funding

    @property
    def close_text(self) -> str:
        """What closing does now: `Close 3.04 SOL, about 451 USD, PnL −12.01`; empty where nothing is open."""
        if self.position.state != "open":
            return ""
        left = self.position.quantity - self.position.closed_quantity
        what = f"Close {brief(left)} {self.position.symbol}"
        if self.now is None:
            return f"{what}; no quote of it is known"
        return f"{what}, about {self.now.value:,.0f} USD, PnL {signed(self.now.pnl)}"


@dataclass(frozen=True, slots=True)
class Trade(TradeFigures):
    """A position from the post to the result."""

    posts: list[Post]
    charges: Charges
    steps: list[Step]
    marks: list[Mark]

    @property
    def interval(self) -> str:
        """The width of candles that shows the trade best."""
        span = (self.position.closed_at or clock.now()) - self.position.opened_at
        return "1m" if span < timedelta(hours=2) else "5m" if span < timedelta(days=1) else "1h"

    def chart(self) -> dict[str, Any]:
        """What the chart draws: levels in USD, moments in seconds since 1970."""
        row = self.position
        levels = {"entry": row.entry_price, "stop": row.stop_loss, "target": row.take_profit}
        if self.margin and self.margin.liquidation_price is not None:
            levels["liquidation"] = self.margin.liquidation_price
        if row.trailing_stop is not None and row.state != "closed":
            levels["trailing stop"] = row.trailing_stop
        elif row.trailing_stop is not None:
            levels["last trailing stop"] = row.trailing_stop
        if row.exit_price is not None and row.state == "closed":
            levels["exit"] = row.exit_price
        end = (row.closed_at or clock.now()) + timedelta(hours=1)
        return {
            "symbol": row.symbol,
            "interval": self.interval,
            "side": row.side,
            "open": row.state != "closed",
            "before": iso_utc(min(end, clock.now() + timedelta(hours=1))),
            "levels": {name: plain(price) for name, price in levels.items()},
            "marks": [
                {
                    "what": mark.what,
                    "at": int(mark.at.timestamp()),
                    "price": None if mark.price is None else plain(mark.price),
                    "text": mark.text,
                }
                for mark in self.marks
            ],
        }

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API: amounts as strings, times in UTC."""
        row, charges = self.position, self.charges
        return {
            "position_id": row.pk,
            "agent": row.deployment.agent.name,
            "account": row.deployment.account,
            "symbol": row.symbol,
            "side": row.side.upper(),
            "status": row.state.upper(),
            "exit_reason": row.exit_reason,
            "quantity": plain(row.quantity),
            "entry_price": plain(row.entry_price),
            "exit_price": None if row.exit_price is None else plain(row.exit_price),
            "opened_at": iso_utc(row.opened_at),
            "closed_at": iso_utc(row.closed_at) if row.closed_at else None,
            "result": None if self.result is None else plain(self.result),
            "costs": {
                "venue_fee": plain(charges.venue_fee),
                "platform_fee": plain(charges.platform_fee),
                "profit_share": plain(charges.profit_share),
                "slippage_usd": plain(charges.slippage_usd),
                "gas": {coin: plain(amount) for coin, amount in charges.gas.items()},
            },
            "now": {
                "price": plain(self.now.price),
                "at": iso_utc(self.now.at),
                "usable": self.now.usable,
                "quantity": plain(self.now.quantity),
                "value_usd": plain(self.now.value),
                "pnl": plain(self.now.pnl),
            }
            if self.now
            else None,
            "margin": self.margin.as_json() if self.margin else None,
            "result_with_funding": None if self.with_funding is None else plain(self.with_funding),
            "close": self.close_text,
            "steps": [
                {
                    "name": step.name,
                    "title": step.title,
                    "at": iso_utc(step.at) if step.at else None,
                    "money": step.money,
                    "lines": step.lines,
                    "details": [{"title": one.title, "text": one.text} for one in step.details],
                }
                for step in self.steps
            ],
            "chart": self.chart(),
            "correlation_id": str(row.correlation_id),
        }


def signed(value: Decimal) -> str:
    """Format USDC with its sign and a true minus: +3.20, −12.01."""
    return f"{value:+,.2f}".replace("-", "−")


def position_of(position_id: int, person: Person) -> Position:
    """Return the position. Raises Rejected where there is none, or `person` may not see it."""
    rows = Position.objects.select_related("deployment__agent", "signal__agent", "entry_order", "exit_order")
    position = visible(rows, person).filter(pk=position_id).first()
    if position is None:
        raise Rejected(f"no position {position_id}, or it belongs to another customer", code="not_found")
    return position


def trade(position_id: int, person: Person = None) -> Trade:
    """Read a position with all that led to it and all that it cost. Raises Rejected for one that is not `person`'s."""
    position = position_of(position_id, person)
    entry = position.entry_order
    closing = list(Order.objects.filter(closes=entry).order_by("-pk")[:CLOSING_ORDERS])[::-1]
    orders = [entry, *closing]
    fills = list(Fill.objects.filter(order__in=orders).order_by("at", "pk"))
    costs = read_costs([entry.pk])[entry.pk]
    ledger = list(LedgerEntry.objects.filter(order__in=orders).order_by("pk"))
    posts = _posts(position)
    calls = _model_calls(position, posts, person)
    charges = _charges(position, costs, orders, ledger)
    now = _now(position, costs)
    held = facts_of([position]).get(position.pk)
    events = _events(position, posts, orders)
    steps = [
        _post_step(position, posts, events),
        _reading_step(posts, calls),
        _signal_step(position, events),
        _order_step(orders, events),
        _fill_step(fills, ledger, orders),
        _result_step(position, now, held, events),
    ]
    marks = _marks(position, posts, fills)
    return Trade(position, now, held, [post_of(post) for post in posts], charges, steps, marks)


def trade_figures(position_id: int, person: Person = None) -> TradeFigures:
    """Read a position and its result at the newest quote. Raises Rejected for one that is not `person`'s."""
    position = position_of(position_id, person)
    entry = position.entry_order
    held = facts_of([position]).get(position.pk)
    return TradeFigures(position, _now(position, read_costs([entry.pk])[entry.pk]), held)


def _posts(position: Position) -> list[CtPost]:
    """List the posts behind the position's signal, oldest first."""
    if position.signal_id is None:
        return []
    return list(
        CtPost.objects.filter(signals=position.signal_id)
        .select_related("account")
        .order_by("posted_at", "pk")
    )


def _model_calls(position: Position, posts: Sequence[CtPost], person: Person) -> list[LlmTrace]:
    """List the model calls about the posts and the signal; a customer does not see those of other agents."""
    ids = [position.correlation_id, *(post.correlation_id for post in posts)]
    calls = LlmTrace.objects.filter(correlation_ids__overlap=ids).order_by("ts", "pk")
    if not sees_all(person, LlmTrace):
        own = Q(agent_id=position.signal.agent_id) if position.signal else Q()
        calls = calls.filter(Q(agent_name="") | own)
    return list(calls[:EVENTS])


def _events(position: Position, posts: Sequence[CtPost], orders: Sequence[Order]) -> dict[str, list[Event]]:
    """Return table -> the events of the trade's own rows, oldest first."""
    rows = [position, *posts, *orders, *([position.signal] if position.signal else [])]
    by_table: dict[str, list[Event]] = {}
    agents = Deciders.of([position.signal.agent] if position.signal else [])
    for event in Event.objects.filter(subject__in=[subject(row) for row in rows]).order_by("pk")[:EVENTS]:
        if agents.concern(event.data, event.at):
            by_table.setdefault(event.subject.partition("/")[0], []).append(event)
    return by_table


def _charges(
    position: Position, costs: Costs, orders: Sequence[Order], ledger: Sequence[LedgerEntry]
) -> Charges:
    """Sum up the costs: fees from fills and ledger, slippage of each order, gas of its transactions."""
    slippage = []
    for order in orders:
        if order.average_price is None or not order.filled_quantity or order.reference_price is None:
            continue
        worse = order.average_price - order.reference_price
        worse = worse if order.side == OrderSide.BUY else -worse
        usd = worse * order.filled_quantity
        slippage.append(Slippage(order.pk, order.purpose, order.reference_price, order.average_price, usd))
    gas: dict[str, Decimal] = {}
    for line in ledger:
        if line.journal_kind == JournalKind.GAS and line.amount > 0:
            gas[line.asset] = gas.get(line.asset, ZERO) + line.amount
    return Charges(
        venue_fee=costs.entry.fee + costs.exits.fee,
        platform_fee=costs.platform_fee,
        profit_share=position.profit_share,
        slippage=slippage,
        gas=gas,
    )


def _now(position: Position, costs: Costs) -> Now | None:
    """Value what is left of a position at the newest quote; None for a closed one, and without a quote."""
    quote = None if position.state == "closed" else Quote.objects.filter(symbol=position.symbol).first()
    if quote is None:
        return None
    left = position.quantity - position.closed_quantity
    if position.state == "closing" and position.exit_order_id is not None:  # booked when the order has ended
        left -= costs.of_order(position.exit_order_id).quantity
    value = left * quote.price
    cash_in = costs.entry.cash
    if costs.entry.quantity != position.quantity:  # fills that are not booked yet
        cash_in = position.quantity * position.entry_price
    cash_out = costs.exits.cash + position.taken_value + value
    earned = pnl.gross(position.side, cash_in, cash_out) - costs.fees
    usable = not quotes.unusable(quote.price, quote.at, clock.now())
    return Now(quote.price, quote.at, usable, left, value, earned)


# -- steps


def _raw(events: dict[str, list[Event]], table: str) -> list[Detail]:
    """Return the events of one table, to be folded away."""
    rows = events.get(table, [])
    lines = [f"{iso_utc(row.at)}  {row.name}  {row.subject}  {_compact(row.data)}".rstrip() for row in rows]
    return [Detail(f"{len(lines)} event{'s' if len(lines) > 1 else ''}", "\n".join(lines))] if lines else []


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _post_step(position: Position, posts: Sequence[CtPost], events: dict[str, list[Event]]) -> Step:
    if not posts:
        return Step("post", "No post: a decision on the market's indicators", None, "")
    first = posts[0]
    bar = Candle.objects.filter(symbol=position.symbol, open_time__lte=first.posted_at - timedelta(minutes=5))
    close = (
        bar.filter(open_time__gt=first.posted_at - timedelta(hours=1))
        .order_by("-open_time")
        .values_list("close", flat=True)
        .first()
    )
    return Step(
        "post",
        "Post" if len(posts) == 1 else f"{len(posts)} posts",
        first.posted_at,
        f"{position.symbol} at {price_text(close)} USD when it was written" if close is not None else "",
        [
            f"@{post.account.x_username}: {post.text}{' (deleted since)' if post.deleted_at else ''}"
            for post in posts
        ],
        _raw(events, "signals_app.ctpost"),
    )


def _reading_step(posts: Sequence[CtPost], calls: Sequence[LlmTrace]) -> Step:
    lines = [post_of(post).reading + (f": {post.reasoning}" if post.reasoning else "") for post in posts]
    details = []
    for call in calls:
        how = f"{call.purpose} by {read_by(call)}, {call.latency_ms} ms, {call.status}"
        details.append(Detail(f"Prompt of {how}", json.dumps(call.request, indent=1, ensure_ascii=False)))
        answer = call.error_message or json.dumps(call.response, indent=1, ensure_ascii=False)
        details.append(Detail(f"Answer of {how}", answer))
    cost = sum((call.cost_usd for call in calls), ZERO)
    count = f"{len(calls)} model call{'s' if len(calls) > 1 else ''}"
    money = f"{plain(cost)} USD for {count}, paid by the platform" if cost else ""
    return Step("reading", "Reading", calls[0].ts if calls else None, money, lines, details)


def _signal_step(position: Position, events: dict[str, list[Event]]) -> Step:
    signal = position.signal
    if signal is None:
        return Step("signal", "No signal: opened by hand or found by reconciliation", None, "")
    rows = effects(signal.risk_model.get("evidence", {}), signal.risk_model.get("weights", {}), signal.side)
    shown = [f"{SCALE}:", *map(str, rows)] if rows else []
    lines = [decision_of(signal), *shown, *forecasts_used(signal.risk_model, signal.size_model)]
    details = _raw(events, "signals_app.signal")
    if signal.market:
        details.append(Detail("Indicators at the decision", json.dumps(signal.market, indent=1)))
    size = signal.size_model.get("size")
    share = f"{plain(Decimal(str(size)) * 100)} % of the available balance" if size else ""
    return Step("signal", "Signal", signal.created_at, share, lines, details)


def _order_step(orders: Sequence[Order], events: dict[str, list[Event]]) -> Step:
    lines = []
    for order in orders:
        text = f"{order.purpose} {order.side} {brief(order.quantity or ZERO)} {order.symbol}: {order.state}"
        if order.reference_price is not None:
            text += f", checked at {price_text(order.reference_price)} USD"
        if order.reason:
            text += f"; {explain(order.reason)[0]} ({order.reason})"
        lines.append(text)
    entry = orders[0]
    money = f"{entry.notional_usd:,.2f} USD" if entry.notional_usd is not None else ""
    return Step("order", "Order", entry.created_at, money, lines, _raw(events, "trading.order"))


def _fill_step(fills: Sequence[Fill], ledger: Sequence[LedgerEntry], orders: Sequence[Order]) -> Step:
    purpose = {order.pk: order.purpose for order in orders}
    lines = [
        f"{purpose[fill.order_id]}: {brief(fill.quantity)} at {price_text(fill.price)} USD, {fill.cash:,.2f} USDC, "
        f"fee {plain(fill.fee)} USDC, {iso_utc(fill.at)}"
        for fill in fills
    ]
    booked = [
        f"{row.account} {row.amount.normalize():+f} {row.asset} ({row.kind}, {row.journal})" for row in ledger
    ]
    details = [Detail(f"{len(booked)} ledger entries", "\n".join(booked))] if booked else []
    paid = sum((fill.cash for fill in fills if purpose[fill.order_id] == "open"), ZERO)
    return Step(
        "fill",
        "Fill",
        fills[0].at if fills else None,
        f"{paid:,.2f} USDC at the entry" if fills else "",
        lines,
        details,
    )


def _result_step(
    position: Position, now: Now | None, margin: MarginFacts | None, events: dict[str, list[Event]]
) -> Step:
    details = _raw(events, "positions.position")
    if position.state != "closed":
        money = f"{signed(now.pnl)} USDC after fees so far" if now else "no quote"
        levels = f"stop {price_text(position.stop_loss)}, target {price_text(position.take_profit)} USD"
        lines = [levels]
        if margin:
            level = margin.liquidation_price
            ends = (
                "no liquidation price is known" if level is None else f"liquidated at {price_text(level)} USD"
            )
            lines.append(f"{ends}, funding so far {signed(margin.funding)} USDC")
        return Step("result", f"Result: {position.state}", None, money, lines, details)
    lines = [
        f"closed by {position.exit_reason.replace('_', ' ')} at {price_text(position.exit_price or ZERO)} USD",
        f"realised {signed(position.realised_pnl)} USDC after {plain(position.fees)} USDC of fees, "
        f"profit share {plain(position.profit_share)} USDC",
    ]
    if margin:
        with_it = signed(position.net + margin.funding)
        lines.append(f"funding {signed(margin.funding)} USDC beside it: {with_it} USDC with funding")
    return Step("result", "Result", position.closed_at, f"{signed(position.net)} USDC", lines, details)


def price_text(value: Decimal) -> str:
    """Format a price in USD: two decimals from 1000 on, four from 1 on, else six."""
    return f"{value:,.{2 if abs(value) >= 1000 else 4 if abs(value) >= 1 else 6}f}"


def _marks(position: Position, posts: Sequence[CtPost], fills: Sequence[Fill]) -> list[Mark]:
    marks = [Mark("POST", post.posted_at, None, f"@{post.account.x_username}") for post in posts]
    marks.append(
        Mark("ENTRY", position.opened_at, position.entry_price, f"entry {price_text(position.entry_price)}")
    )
    if position.closed_at is not None and position.exit_price is not None:
        reason = position.exit_reason.replace("_", " ")
        text = f"{reason} {signed(position.net)}"
        marks.append(Mark("EXIT", position.closed_at, position.exit_price, text))
    return sorted(marks, key=lambda mark: mark.at)


def only_position(correlation_id: UUID, person: Person) -> int | None:
    """Return the position of a trace where `person` sees exactly one, else None."""
    rows = visible(Position.objects.all(), person)
    led_to = list(
        Signal.objects.filter(posts__correlation_id=correlation_id).values_list("pk", flat=True)[:2]
    )
    found = set(rows.filter(correlation_id=correlation_id).order_by().values_list("pk", flat=True)[:2])
    if led_to and len(found) < 2:
        found |= set(rows.filter(signal__in=led_to).order_by().values_list("pk", flat=True)[:2])
    return found.pop() if len(found) == 1 else None
