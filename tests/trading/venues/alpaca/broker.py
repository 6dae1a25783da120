"""A fake of Alpaca's paper API: accounts, orders, brackets, positions and activities, kept in memory.

`server.py` puts it behind HTTP. Its answers have the members of alpaca-py's models and the error codes of
Alpaca's documents; `tests/conformance/alpaca.py` holds it against that client.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.trading.venues.alpaca import refusals
from tests.trading.venues.alpaca.refusals import CANCELABLE, LIVE, Refused, Row

ZERO = Decimal(0)
NEW_YORK = ZoneInfo("America/New_York")
CRYPTO_FEE = Decimal("0.0025")
"""Of what a crypto order receives: coins of a buy, USD of a sale (alpacahq/alpaca-py#374)."""
NANO = Decimal("1e-9")
EARLY_CLOSES = frozenset({date(2026, 11, 27), date(2026, 12, 24)})
HOLIDAYS = frozenset({date(2026, 11, 26), date(2026, 12, 25)})


@dataclass
class Account:
    """One paper account."""

    key_id: str
    secret: str
    cash: Decimal = Decimal(100_000)
    ident: str = field(default_factory=lambda: str(uuid.uuid4()))
    held: dict[str, Decimal] = field(default_factory=dict)
    """Symbol -> quantity; a short is negative."""
    orders: dict[str, Row] = field(default_factory=dict)
    """Order id -> the order, oldest first; legs too."""
    activities: list[Row] = field(default_factory=list)
    """Oldest first."""
    flags: Row = field(default_factory=dict)
    """Members that replace those of the account's answer."""
    configurations: Row = field(default_factory=dict)
    effects: int = 0
    """How many orders `POST /v2/orders` created."""


def asset(symbol: str, **members: Any) -> Row:
    """Return the asset of a symbol: a pair against USD where it has a slash, otherwise a stock."""
    crypto = "/" in symbol
    row: Row = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol)),
        "class": "crypto" if crypto else "us_equity",
        "exchange": "CRYPTO" if crypto else "NASDAQ",
        "symbol": symbol,
        "name": symbol,
        "status": "active",
        "tradable": True,
        "marginable": not crypto,
        "maintenance_margin_requirement": 100 if crypto else 30,
        "shortable": not crypto,
        "easy_to_borrow": not crypto,
        "fractionable": True,
        "attributes": [],
    }
    if crypto:
        row |= {
            "min_order_size": "0.0001",
            "min_trade_increment": "0.000000001",
            "price_increment": "0.000000001",
        }
    return row | members


class Broker:
    """All accounts and the market. Every public method holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.accounts: dict[str, Account] = {}
        self.prices: dict[str, Decimal] = {}
        self.assets: dict[str, Row] = {}
        self.is_open = True
        """Whether the stock exchange is open."""
        self.depth: Decimal | None = None
        """How much of an order fills at a time, at POST and at each read of it; None: all."""
        self.fills = True
        """Whether orders fill by themselves; otherwise the test calls `fill`."""
        self.shown: int | None = None
        """How many fills the activities show; the others come late. None: all."""
        self.slow_cancels = False
        """Whether a cancellation stays `pending_cancel` until `confirms_cancels`."""
        self.refuses_other_side = True
        """Whether an order is refused that could trade with an open one of the account."""
        self.skew = timedelta(0)
        self.updates: list[Callable[[Account, Row], None]] = []
        """Called with the account and the `data` of each trade update."""
        self.time: Callable[[], datetime] = lambda: datetime.now(UTC)

    # -- what a test sets

    def account(self, key_id: str, secret: str = "secret", **fields: Any) -> Account:
        """Open an account, or return the one that has this key."""
        with self.lock:
            return self.accounts.setdefault(key_id, Account(key_id, secret, **fields))

    def price(self, symbol: str, usd: str, **members: Any) -> None:
        """List a symbol, set its price, and trigger what waits for it."""
        with self.lock:
            self.prices[symbol] = Decimal(usd)
            self.assets[symbol] = self.assets.get(symbol) or asset(symbol)
            self.assets[symbol] |= members
            self._match_all()

    def opens(self) -> None:
        """Open the stock exchange: what waited for it fills."""
        with self.lock:
            self.is_open = True
            self._match_all()

    def order_of(self, account: Account, client_order_id: str) -> Row:
        """Return an order by our id."""
        return next(row for row in account.orders.values() if row["client_order_id"] == client_order_id)

    def fill(self, account: Account, client_order_id: str, quantity: str = "", usd: str = "") -> None:
        """Execute some or all of an order, at its market's price or at another."""
        with self.lock:
            row = self.order_of(account, client_order_id)
            left = Decimal(row["qty"]) - Decimal(row["filled_qty"])
            self._execute(
                account,
                row,
                Decimal(quantity) if quantity else left,
                Decimal(usd) if usd else self.prices[row["symbol"]],
            )

    def transfer(self, account: Account, amount: str, kind: str = "") -> None:
        """Move the owner's cash in (CSD) or out (CSW)."""
        with self.lock:
            usd = Decimal(amount)
            account.cash += usd
            at = self.now()
            account.activities.append(
                {
                    "id": f"{at:%Y%m%d}000000000::{uuid.uuid4()}",
                    "account_id": account.ident,
                    "activity_type": kind or ("CSD" if usd > 0 else "CSW"),
                    "date": at.date().isoformat(),
                    "net_amount": str(usd),
                    "description": "",
                    "status": "executed",
                }
            )

    # -- time

    def now(self) -> datetime:
        """Return the broker's own time, which may be wrong."""
        return self.time() + self.skew

    def stamp(self) -> str:
        """Return that time as Alpaca writes it, with nanoseconds."""
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")

    def clock(self) -> Row:
        """Return /v2/clock."""
        now = self.now().astimezone(NEW_YORK)
        days = iter(_days(now.date(), now.date() + timedelta(days=10)))
        sessions = [
            (
                datetime.combine(day, time(9, 30), NEW_YORK),
                datetime.combine(day, _closing(day), NEW_YORK),
            )
            for day in days
        ]
        return {
            "timestamp": now.isoformat(),
            "is_open": self.is_open,
            "next_open": next(opens for opens, _ in sessions if opens > now).isoformat(),
            "next_close": next(closes for _, closes in sessions if closes > now).isoformat(),
        }

    def calendar(self, start: str, end: str) -> list[Row]:
        """Return /v2/calendar, early closes included."""
        first = date.fromisoformat(start[:10]) if start else self.now().date()
        last = date.fromisoformat(end[:10]) if end else first + timedelta(days=30)
        return [
            {
                "date": day.isoformat(),
                "open": "09:30",
                "close": f"{_closing(day):%H:%M}",
                "session_open": "0400",
                "session_close": "2000",
                "settlement_date": (day + timedelta(days=1)).isoformat(),
            }
            for day in _days(first, last)
        ]

    # -- orders

    def submit(self, account: Account, body: Row) -> Row:
        """Take an order, as POST /v2/orders does."""
        with self.lock:
            given = str(body.get("client_order_id") or uuid.uuid4())
            if any(row["client_order_id"] == given for row in account.orders.values()):
                raise Refused(422, 40010001, "client_order_id must be unique")
            refusals.check_terms(body)
            refusals.check_account(self.account_answer(account), self.configurations(account))
            row = self._row(body, given)
            refusals.check_asset(row, self.assets[row["symbol"]], account.held.get(row["symbol"], ZERO))
            refusals.check_available(row, account.held.get(row["symbol"], ZERO), account.orders.values())
            refusals.check_levels(row, body, self.prices[row["symbol"]])
            if self.refuses_other_side:
                refusals.check_other_side(row, account.orders.values())
            refusals.check_cost(row, self.prices[row["symbol"]], account.cash * 2)
            account.orders[row["id"]] = row
            account.effects += 1
            self._tell(account, row, "new")
            if row["order_class"] in ("bracket", "oto"):
                row["legs"] = [self._leg(account, row, kind, body) for kind in _legs(body)]
            elif (
                row["order_class"] == "oco"
            ):  # its target is the order itself, its stop works from the beginning
                row["legs"] = [
                    self._leg(account, row, "stop_loss", body) | {"status": "new", "side": row["side"]}
                ]
                account.orders[row["legs"][0]["id"]] = row["legs"][0]
            if self.fills:
                self._match(account, row)
            return row

    def find(self, account: Account, **by: str) -> Row:
        """Return one order; reading it may fill more of it."""
        with self.lock:
            for row in account.orders.values():
                if all(row[name] == value for name, value in by.items()):
                    if self.fills and row["status"] in LIVE:
                        self._match(account, row)
                    return row
            raise Refused(404, 40410000, f"order not found for {next(iter(by.values()))}")

    def orders(self, account: Account, query: Row) -> list[Row]:
        """Return GET /v2/orders: newest first unless told otherwise, at most `limit`."""
        with self.lock:
            status, nested = query.get("status", "open"), query.get("nested") in ("true", "True")
            rows = [
                row
                for row in account.orders.values()
                if not (nested and row.get("parent"))
                and (status == "all" or (row["status"] in LIVE) == (status == "open"))
                and (not query.get("symbols") or row["symbol"] in query["symbols"].split(","))
                and (not query.get("side") or row["side"] == query["side"])
                and (not query.get("after") or _moment(row["submitted_at"]) > _moment(query["after"]))
                and (not query.get("until") or _moment(row["submitted_at"]) < _moment(query["until"]))
            ]
            if query.get("direction") != "asc":
                rows.reverse()
            limit = int(query.get("limit", 50))
            if not 1 <= limit <= 500:
                raise Refused(422, 40010001, "limit must be between 1 and 500")
            for row in rows[:limit]:
                if self.fills and row["status"] in LIVE:
                    self._match(account, row)
            return rows[:limit]

    def replace(self, account: Account, ident: str, body: Row) -> Row:
        """Replace an order by a new one, as PATCH does: the old one keeps its fills."""
        with self.lock:
            old = self.find(account, id=ident)
            if old["status"] not in LIVE:
                raise Refused(422, 42210000, f'order is already in "{old["status"]}" state')
            rest = Decimal(old["qty"]) - Decimal(old["filled_qty"])
            names = ("time_in_force", "limit_price", "stop_price", "trail")
            terms = {name: str(body[name]) for name in names if body.get(name) is not None}
            new = {
                **old,
                **terms,
                "legs": old["legs"],
                "id": str(uuid.uuid4()),
                "client_order_id": str(body.get("client_order_id") or uuid.uuid4()),
                "qty": str(body.get("qty") or rest),
                "filled_qty": "0",
                "filled_avg_price": None,
                "status": "new",
                "replaces": old["id"],
                "created_at": self.stamp(),
                "submitted_at": self.stamp(),
                "updated_at": self.stamp(),
            }
            old |= {"status": "replaced", "replaced_by": new["id"], "replaced_at": self.stamp()}
            account.orders[new["id"]] = new
            if parent := account.orders.get(old.get("parent") or ""):
                parent["legs"].append(new)
            for leg in new["legs"] or ():
                leg["parent"] = new["id"]
            if self.fills:
                self._match(account, new)
            return new

    def cancel(self, account: Account, ident: str) -> None:
        """Cancel what is not filled of an order and of its legs; a leg that is canceled takes its sibling along."""
        with self.lock:
            row = self.find(account, id=ident)
            if row["status"] not in LIVE:
                raise Refused(422, 42210000, f'order is already in "{row["status"]}" state')
            for one in self._together(account, row):
                if one["status"] in LIVE:
                    self._end(one, "pending_cancel" if self.slow_cancels else "canceled")

    def confirms_cancels(self) -> None:
        """Let what is `pending_cancel` become canceled."""
        with self.lock:
            for account in self.accounts.values():
                for row in account.orders.values():
                    if row["status"] == "pending_cancel":
                        self._end(row, "canceled")

    def _together(self, account: Account, row: Row) -> list[Row]:
        """Return an order with what is canceled along with it."""
        parent = account.orders.get(row.get("parent") or "")
        if parent is None:
            return [row, *(row["legs"] or ())]
        return [parent, *parent["legs"]] if parent["order_class"] == "oco" else list(parent["legs"])

    def close(self, account: Account, symbol: str, query: Row) -> Row:
        """Sell a whole position, or `qty` or `percentage` of it, by a market order."""
        with self.lock:
            listed = next((name for name in account.held if name.replace("/", "") == symbol), "")
            held = account.held.get(listed, ZERO)
            if not held:
                raise Refused(404, 40410000, f"position not found: {symbol}")
            part = Decimal(query["qty"]) if query.get("qty") else abs(held)
            if query.get("percentage"):
                part = (abs(held) * Decimal(query["percentage"]) / 100).quantize(NANO, ROUND_FLOOR)
            side = "sell" if held > 0 else "buy"
            crypto = "/" in listed
            tif = "gtc" if crypto else "day"
            return self.submit(
                account,
                {"symbol": listed, "qty": str(part), "side": side, "type": "market", "time_in_force": tif},
            )

    # -- answers

    def account_answer(self, account: Account) -> Row:
        """Return /v2/account; without the PDT fields, as since 2026-07-06."""
        worth = sum((quantity * self.prices[symbol] for symbol, quantity in account.held.items()), ZERO)
        equity = str(account.cash + worth)
        return {
            "id": account.ident,
            "account_number": "PA3XXXXXXXXX",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "buying_power": str(account.cash * 2),
            "regt_buying_power": str(account.cash * 2),
            "non_marginable_buying_power": str(account.cash),
            "cash": str(account.cash),
            "accrued_fees": "0",
            "portfolio_value": equity,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "created_at": "2026-01-05T10:00:00.000000Z",
            "trade_suspended_by_user": False,
            "multiplier": "2",
            "shorting_enabled": True,
            "equity": equity,
            "last_equity": equity,
            "long_market_value": str(worth),
            "short_market_value": "0",
            "initial_margin": "0",
            "maintenance_margin": "0",
            "last_maintenance_margin": "0",
            "sma": "0",
            **account.flags,
        }

    def configurations(self, account: Account) -> Row:
        """Return /v2/account/configurations."""
        return {
            "fractional_trading": True,
            "max_margin_multiplier": "4",
            "no_shorting": False,
            "suspend_trade": False,
            "trade_confirm_email": "all",
            "ptp_no_exception_entry": False,
            **account.configurations,
        }

    def positions(self, account: Account) -> list[Row]:
        """Return /v2/positions; the symbol of a pair has no slash there."""
        rows = []
        for symbol, quantity in account.held.items():
            if not quantity:
                continue
            price = self.prices[symbol]
            rows.append(
                {
                    "asset_id": self.assets[symbol]["id"],
                    "symbol": symbol.replace("/", ""),
                    "exchange": self.assets[symbol]["exchange"],
                    "asset_class": self.assets[symbol]["class"],
                    "asset_marginable": self.assets[symbol]["marginable"],
                    "qty": str(quantity),
                    "qty_available": str(quantity),
                    "avg_entry_price": str(price),
                    "side": "long" if quantity > 0 else "short",
                    "market_value": str(quantity * price),
                    "cost_basis": str(quantity * price),
                    "unrealized_pl": "0",
                    "unrealized_plpc": "0",
                    "unrealized_intraday_pl": "0",
                    "unrealized_intraday_plpc": "0",
                    "current_price": str(price),
                    "lastday_price": str(price),
                    "change_today": "0",
                }
            )
        return rows

    def activity_page(self, account: Account, kinds: str, query: Row) -> list[Row]:
        """Return one page of /v2/account/activities: newest first unless told otherwise."""
        with self.lock:
            wanted = set(kinds.split(",")) if kinds else None
            fills = [row["id"] for row in account.activities if row["activity_type"] == "FILL"]
            late = set(fills[self.shown :]) if self.shown is not None else set()
            rows = [
                row
                for row in account.activities
                if (not wanted or row["activity_type"] in wanted)
                and row["id"] not in late
                and (not query.get("after") or _at(row) > _moment(query["after"]))
                and (not query.get("until") or _at(row) < _moment(query["until"]))
            ]
            if query.get("direction") != "asc":
                rows.reverse()
            size = int(query.get("page_size", 100))
            if not 1 <= size <= 100:
                raise Refused(422, 40010001, "page_size must be between 1 and 100")
            start = 0
            if token := query.get("page_token"):
                start = next((n + 1 for n, row in enumerate(rows) if row["id"] == token), len(rows))
            return rows[start : start + size]

    # -- the market

    def _match_all(self) -> None:
        if self.fills:
            for account in self.accounts.values():
                for row in list(account.orders.values()):
                    if row["status"] in LIVE:
                        self._match(account, row)

    def _match(self, account: Account, row: Row) -> None:
        """Execute what the price and the depth allow."""
        price = self.prices[row["symbol"]]
        closed = row["asset_class"] == "us_equity" and not self.is_open
        if closed or row["status"] == "held" or not _reached(row, price):
            return
        if row["status"] == "accepted":
            row["status"] = "new"
        left = Decimal(row["qty"]) - Decimal(row["filled_qty"])
        self._execute(account, row, left if self.depth is None else min(left, self.depth), price)
        if row["time_in_force"] == "ioc" and row["status"] in LIVE:
            self._end(row, "canceled")

    def _execute(self, account: Account, row: Row, quantity: Decimal, price: Decimal) -> None:
        before, value = Decimal(row["filled_qty"]), ZERO
        if row["filled_avg_price"]:
            value = before * Decimal(row["filled_avg_price"])
        total = before + quantity
        done = total >= Decimal(row["qty"])
        row |= {
            "filled_qty": str(total),
            "filled_avg_price": str((value + quantity * price) / total),
            "status": "filled" if done else "partially_filled",
            "filled_at": self.stamp() if done else None,
            "updated_at": self.stamp(),
        }
        sign = 1 if row["side"] == "buy" else -1
        received, cash = quantity, quantity * price
        if row["asset_class"] == "crypto":
            fee = 1 - CRYPTO_FEE
            received = (quantity * fee).quantize(NANO, ROUND_FLOOR) if sign > 0 else quantity
            cash = cash if sign > 0 else cash * fee
        account.held[row["symbol"]] = account.held.get(row["symbol"], ZERO) + sign * received
        account.cash -= sign * cash
        account.activities.append(
            {
                "id": f"{self.now():%Y%m%d%H%M%S}{len(account.activities):03}::{uuid.uuid4()}",
                "account_id": account.ident,
                "activity_type": "FILL",
                "transaction_time": self.stamp(),
                "type": "fill" if done else "partial_fill",
                "price": str(price),
                "qty": str(quantity),
                "side": row["side"],
                "symbol": row["symbol"],
                "leaves_qty": str(Decimal(row["qty"]) - total),
                "order_id": row["id"],
                "cum_qty": str(total),
                "order_status": row["status"],
            }
        )
        self._tell(
            account,
            row,
            "fill" if done else "partial_fill",
            execution_id=str(uuid.uuid4()),
            price=str(price),
            qty=str(quantity),
            position_qty=str(account.held[row["symbol"]]),
        )
        if done:
            self._after_fill(account, row)

    def _after_fill(self, account: Account, row: Row) -> None:
        """Let the legs of a filled entry work; cancel the sibling of a filled leg."""
        for leg in row["legs"] or ():
            if row["order_class"] == "oco" and leg["status"] in CANCELABLE:
                self._end(leg, "canceled")
            elif leg["status"] == "held":
                leg |= {"status": "new", "updated_at": self.stamp()}
        if parent := account.orders.get(row.get("parent") or ""):
            siblings = [*parent["legs"], *([parent] if parent["order_class"] == "oco" else [])]
            for leg in siblings:
                if leg is not row and leg["status"] in CANCELABLE:
                    self._end(leg, "canceled")

    def _tell(self, account: Account, row: Row, event: str, **more: Any) -> None:
        """Send a trade update."""
        shown = {name: value for name, value in row.items() if name not in ("parent", "legs")} | {
            "legs": None
        }
        for update in self.updates:
            update(account, {"event": event, "timestamp": self.stamp(), "order": shown, **more})

    def _end(self, row: Row, status: str) -> None:
        row |= {"status": status, "updated_at": self.stamp()}
        if status != "pending_cancel":
            row[f"{status}_at"] = self.stamp()
        owner = next((one for one in self.accounts.values() if row["id"] in one.orders), None)
        if owner is not None:
            self._tell(owner, row, status)

    # -- what an order looks like, and what is refused

    def _row(self, body: Row, client_order_id: str) -> Row:
        symbol = body["symbol"]
        known = self.assets.get(symbol) or self.assets.get(f"{symbol.removesuffix('USD')}/USD")
        if known is None:
            raise Refused(422, 42210000, f'asset "{symbol}" not found')
        at, kind = self.stamp(), body["type"]
        waiting = known["class"] == "us_equity" and not self.is_open
        quantity = body.get("qty")
        if quantity is None:
            price = self.prices[known["symbol"]]
            quantity = (Decimal(str(body["notional"])) / price).quantize(NANO, ROUND_FLOOR)
        return {
            "id": str(uuid.uuid4()),
            "client_order_id": client_order_id,
            "created_at": at,
            "updated_at": at,
            "submitted_at": at,
            "filled_at": None,
            "expired_at": None,
            "canceled_at": None,
            "failed_at": None,
            "replaced_at": None,
            "replaced_by": None,
            "replaces": None,
            "asset_id": known["id"],
            "symbol": known["symbol"],
            "asset_class": known["class"],
            "notional": None,
            "qty": str(quantity),
            "filled_qty": "0",
            "filled_avg_price": None,
            "order_class": body.get("order_class") or "simple",
            "order_type": kind,
            "type": kind,
            "side": body["side"],
            "time_in_force": body["time_in_force"],
            "limit_price": _text(body.get("limit_price")),
            "stop_price": _text(body.get("stop_price")),
            "status": "accepted" if waiting else "new",
            "extended_hours": bool(body.get("extended_hours")),
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            "subtag": None,
            "source": None,
        }

    def _leg(self, account: Account, entry: Row, kind: str, body: Row) -> Row:
        limit = body[kind].get("limit_price")
        stop = body[kind].get("stop_price")
        leg_type = "limit" if kind == "take_profit" else ("stop_limit" if limit else "stop")
        leg = {
            **entry,
            "id": str(uuid.uuid4()),
            "client_order_id": str(uuid.uuid4()),
            "side": "sell" if entry["side"] == "buy" else "buy",
            "type": leg_type,
            "order_type": leg_type,
            "limit_price": _text(limit),
            "stop_price": _text(stop),
            "status": "held",
            "legs": None,
            "parent": entry["id"],
        }
        account.orders[leg["id"]] = leg
        return leg


def _legs(body: Row) -> Iterator[str]:
    return (kind for kind in ("take_profit", "stop_loss") if body.get(kind))


def _reached(row: Row, price: Decimal) -> bool:
    """Return whether the price lets an order execute."""
    buys = row["side"] == "buy"
    if row["type"] in ("stop", "stop_limit"):
        stop = Decimal(row["stop_price"])
        return price >= stop if buys else price <= stop
    if row["type"] == "limit":
        limit = Decimal(row["limit_price"])
        return price <= limit if buys else price >= limit
    return True


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _moment(text: str) -> datetime:
    """Parse a query's or a row's time; a date is its first moment in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _at(activity: Row) -> datetime:
    return _moment(activity.get("transaction_time") or activity["date"])


def _closing(day: date) -> time:
    return time(13) if day in EARLY_CLOSES else time(16)


def _days(first: date, last: date) -> Iterator[date]:
    """Yield the trading days, of which HOLIDAYS names what 2026 needs."""
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day.weekday() < 5 and day not in HOLIDAYS:
            yield day
