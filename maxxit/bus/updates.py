"""Messages of a batch of events: each event with its symbol, and the updates that follow from it.

`order_submitted` and `order_filled` follow from one event each. `exposure_update` and `pnl_update` state how things are
when they are made: one for each deployment and product of the batch, not one for each event.
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple, NotRequired

from django.db import connection
from django.db.models import Sum
from typing_extensions import TypedDict  # pydantic refuses typing's before Python 3.12

from maxxit.bus.messages import Message, Topic
from maxxit.core import clock
from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.terms import KILL_LEVELS
from maxxit.events.log import LoggedEvent
from maxxit.market.models import Quote
from positions.models import Position
from positions.performance.figures import midnight
from positions.states import PositionState
from signals_app.models import Signal
from trading import gate
from trading.models import Order
from trading.states import IN_FLIGHT

SUBMITTED = "order.sending"
FILLED = {"order.partially_filled": "partially_filled", "execution.completed": "filled"}
EXPOSURE = {
    SUBMITTED, *FILLED, "order.accepted", "order.rejected", "order.canceled", "order.expired",
    "position.open", "position.closing", "position.closed",
}  # fmt: skip
"""Events after which a deployment's exposure or its number of open orders is another."""
CLOSED = "position.closed"
PNL = {CLOSED, "kill_switch.pulled", "kill_switch.released"}
ORDER, POSITION, SIGNAL = "trading.order/", "positions.position/", "signals_app.signal/"


class OrderSubmitted(TypedDict):
    """An order is reserved and handed to its venue."""

    order_id: int
    client_order_id: str
    deployment_id: int
    product_id: str
    side: str
    size: str | None


class OrderFilled(TypedDict):
    """An order was filled, in part or in full; `size` and `price` are of all its fills so far."""

    order_id: int
    client_order_id: str
    deployment_id: int
    product_id: str
    side: str
    size: str
    price: str | None
    status: str


class ExposureUpdate(TypedDict):
    """Signed exposure of one deployment at the newest quotes, USD; open orders are those in flight."""

    deployment_id: int
    product_id: str
    exposure: str
    exposures: dict[str, str]
    open_orders: int


class PnlUpdate(TypedDict):
    """PnL of positions that closed since midnight UTC, USDC, and the kill switch; of the platform with neither id."""

    deployment_id: NotRequired[int]
    account: NotRequired[str]
    """Of a kill switch of one account."""
    daily_pnl: str
    kill_switch: str
    """Level that is latched for the account or the platform; empty for none."""


class Ticker(TypedDict):
    """The newest accepted price of a product, USD."""

    product_id: str
    price: str


def product(symbol: str) -> str:
    """Return a symbol as a product id: ETH-USD."""
    return f"{symbol}-USD"


class _Row(NamedTuple):
    """What an order, a position or a signal adds to its events."""

    symbol: str
    deployment_id: int = 0
    account: str = ""
    order: "_Order | None" = None


class _Order(NamedTuple):
    pk: int
    symbol: str
    deployment_id: int
    account: str
    client_order_id: str | None
    side: str
    quantity: Decimal | None
    filled_quantity: Decimal
    average_price: Decimal | None


def messages(events: Sequence[LoggedEvent]) -> list[Message]:
    """Return the messages of a batch of events, by ascending event id; the updates come last."""
    rows = _rows(events)
    made = [message for event in events for message in _of_event(event, rows.get(event.subject))]
    return made + list(_exposures(events, rows)) + list(_pnl(events, rows))


def tickers(known: dict[str, str]) -> list[Message]:
    """Return the quotes that are newer than those in `known` (symbol -> time of its quote), which is updated."""
    made = []
    for quote in Quote.objects.all():
        at = quote.at.isoformat()
        if known.get(quote.symbol) == at:
            continue
        known[quote.symbol] = at
        data: Ticker = {"product_id": product(quote.symbol), "price": plain(quote.price)}
        ident, subject = f"ticker:{quote.symbol}:{at}", f"market.quote/{quote.symbol}"
        made.append(Message("ticker", ident, "ticker", quote.at, subject, "", quote.symbol, json.dumps(data)))
    return made


def _ids(events: Sequence[LoggedEvent], prefix: str) -> list[int]:
    found = {event.subject[len(prefix) :] for event in events if event.subject.startswith(prefix)}
    return [int(pk) for pk in found if pk.isdecimal()]


def _rows(events: Sequence[LoggedEvent]) -> dict[str, _Row]:
    """Return subject -> its row, for orders, positions and signals."""
    rows: dict[str, _Row] = {}
    if ids := _ids(events, ORDER):
        found = Order.objects.filter(pk__in=ids).order_by()
        for order in map(_Order._make, found.values_list(*_Order._fields)):
            rows[f"{ORDER}{order.pk}"] = _Row(order.symbol, order.deployment_id, order.account, order)
    if ids := _ids(events, POSITION):
        fields = ("pk", "symbol", "deployment_id", "deployment__account")
        for pk, *values in Position.objects.filter(pk__in=ids).order_by().values_list(*fields):
            rows[f"{POSITION}{pk}"] = _Row(*values)
    if ids := _ids(events, SIGNAL):
        for pk, token in Signal.objects.filter(pk__in=ids).order_by().values_list("pk", "token"):
            rows[f"{SIGNAL}{pk}"] = _Row(token)
    return rows


def _of_event(event: LoggedEvent, row: _Row | None) -> Iterator[Message]:
    if row and row.order and event.name == SUBMITTED:
        yield _derived(event, "order_submitted", row, json.dumps(_submitted(row.order)))
    if row and row.order and event.name in FILLED:
        yield _derived(event, "order_filled", row, json.dumps(_filled(row.order, FILLED[event.name])))
    yield _message(event, row.symbol if row else "", "events", str(event.id), event.name, event.text)


def _message(event: LoggedEvent, symbol: str, topic: Topic, event_id: str, name: str, data: str) -> Message:
    corr = str(event.correlation_id or "")
    return Message(topic, event_id, name, event.at, event.subject, corr, symbol, data)


def _derived(event: LoggedEvent, name: str, row: _Row, data: str) -> Message:
    return _message(event, row.symbol, "updates", f"{event.id}:{name}", name, data)


def _submitted(order: _Order) -> OrderSubmitted:
    return {
        "order_id": order.pk,
        "client_order_id": order.client_order_id or "",
        "deployment_id": order.deployment_id,
        "product_id": product(order.symbol),
        "side": order.side,
        "size": None if order.quantity is None else plain(order.quantity),
    }


def _filled(order: _Order, status: str) -> OrderFilled:
    return {
        "order_id": order.pk,
        "client_order_id": order.client_order_id or "",
        "deployment_id": order.deployment_id,
        "product_id": product(order.symbol),
        "side": order.side,
        "size": plain(order.filled_quantity),
        "price": None if order.average_price is None else plain(order.average_price),
        "status": status,
    }


HELD = """
SELECT p.deployment_id, p.symbol,
       sum(CASE p.side WHEN 'long' THEN 1 ELSE -1 END * (p.quantity - p.closed_quantity)
           * coalesce(q.price, p.entry_price))
FROM positions p LEFT JOIN quotes q ON q.symbol = p.symbol
WHERE p.state <> 'closed' AND p.deployment_id = ANY(%s) GROUP BY 1, 2 ORDER BY 1, 2
"""
OPEN_ORDERS = """
SELECT deployment_id, count(*) FROM orders WHERE state = ANY(%s) AND deployment_id = ANY(%s) GROUP BY 1
"""


def _exposures(events: Sequence[LoggedEvent], rows: dict[str, _Row]) -> Iterator[Message]:
    """Yield one exposure update for each deployment and symbol that an event of the batch changed."""
    changed = {
        (row.deployment_id, row.symbol): (event, row)
        for event in events
        if event.name in EXPOSURE and (row := rows.get(event.subject))
    }
    if not changed:
        return
    deployments = sorted({deployment for deployment, _ in changed})
    held: dict[int, dict[str, str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(HELD, [deployments])
        for deployment, symbol, usd in cursor.fetchall():
            held.setdefault(deployment, {})[product(symbol)] = plain(usdc(usd))
        cursor.execute(OPEN_ORDERS, [sorted(IN_FLIGHT), deployments])
        open_orders: dict[int, int] = dict(cursor.fetchall())
    for (deployment, symbol), (event, row) in changed.items():
        exposures = held.get(deployment, {})
        data: ExposureUpdate = {
            "deployment_id": deployment,
            "product_id": product(symbol),
            "exposure": exposures.get(product(symbol), "0"),
            "exposures": exposures,
            "open_orders": open_orders.get(deployment, 0),
        }
        yield _derived(event, "exposure_update", row, json.dumps(data))


def _pnl(events: Sequence[LoggedEvent], rows: dict[str, _Row]) -> Iterator[Message]:
    """Yield a PnL update for each deployment that closed a position, and for each change of a kill switch.

    A kill switch of the platform states the platform's PnL, one of an account that of the account's deployments.
    """
    relevant = [event for event in events if event.name in PNL]
    if not relevant:
        return
    levels = list(gate.latched().values_list("account", "level"))
    today = Position.objects.filter(
        state=PositionState.CLOSED, closed_at__gte=midnight(clock.now())
    ).order_by()
    closed = {row.deployment_id: (event, row) for event in relevant if (row := rows.get(event.subject))}
    daily = dict(
        today.filter(deployment__in=list(closed)).values_list("deployment").annotate(Sum("realised_pnl"))
    )
    for deployment, (event, row) in closed.items():
        data: PnlUpdate = {
            "deployment_id": deployment,
            "daily_pnl": _amount(daily.get(deployment)),
            "kill_switch": _level(levels, row.account),
        }
        yield _derived(event, "pnl_update", row, json.dumps(data))
    for event in relevant:
        if event.name == CLOSED:
            continue
        account = str(event.data.get("account", ""))
        affected = today.filter(deployment__account=account) if account else today
        total = affected.aggregate(total=Sum("realised_pnl"))["total"]
        stopped: PnlUpdate = {"daily_pnl": _amount(total), "kill_switch": _level(levels, account)}
        if account:
            stopped["account"] = account
        yield _derived(event, "pnl_update", _Row(""), json.dumps(stopped))


def _amount(value: Decimal | None) -> str:
    return plain(usdc(value or ZERO))


def _level(levels: Sequence[tuple[str, str]], account: str) -> str:
    found = [level for stopped, level in levels if stopped in ("", account)]
    return max(found, key=lambda level: [str(one) for one in KILL_LEVELS].index(level), default="")
