"""A fake of Coinbase Advanced: portfolios, orders, fills and products, kept in memory.

`server.py` puts it behind HTTP. Its answers have the members of coinbase-advanced-py's models and the words of
Coinbase's documents; `tests/conformance/coinbase_trading.py` holds it against that client.
"""

import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.trading.venues.coinbase.tokens import Issued, issue

Row = dict[str, Any]
ZERO = Decimal(0)
TAKER = Decimal("0.006")
"""Fee of what an order that fills at once exchanges, in USD."""
LIVE = frozenset({"OPEN", "PENDING", "QUEUED", "CANCEL_QUEUED"})
AT_ONCE = ("market_market_ioc", "sor_limit_ioc")
"""What is not filled of these is canceled."""


class Refused(Exception):
    """A 4xx answer."""

    def __init__(self, status: int, word: str, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": word, "error_details": message, "message": message}


@dataclass
class Portfolio:
    """What one API key trades for."""

    key_name: str
    issued: Issued
    ident: str = field(default_factory=lambda: str(uuid.uuid4()))
    held: dict[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(100_000)})
    orders: dict[str, Row] = field(default_factory=dict)
    """Order id -> the order, oldest first."""
    fills: list[Row] = field(default_factory=list)
    """Oldest first."""
    permissions: Row = field(default_factory=dict)
    """Members that replace those of /key_permissions."""
    effects: int = 0
    """How many orders `POST /orders` created."""


class Exchange:
    """All portfolios and the market. Every public method holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.issued = issue()
        """One key for all portfolios, so that tests need not make many."""
        self.reset()

    def reset(self) -> None:
        """Forget everything but the key."""
        self.portfolios: dict[str, Portfolio] = {}
        self.products: dict[str, Row] = {}
        self.dedups = True
        """Whether a repeated client order id returns the order that has it; otherwise it makes another."""
        self.fills = True
        """Whether orders fill by themselves; otherwise the test calls `fill`."""
        self.depth: Decimal | None = None
        """How much of an order fills at a time, when it is taken and each time it is read; None: all."""
        self.cancels_rest = False
        """Whether what did not fill at once of an immediate order is canceled."""
        self.shown: int | None = None
        """How many fills are shown; the others come late. None: all."""
        self.list_lag = timedelta(0)
        """How long a new order is missing in the list."""
        self.page: int | None = None
        """Most rows of a page, whatever the client asks for."""
        self.skew = timedelta(0)
        self.updates: list[Callable[[Portfolio, Row], None]] = []
        """Called with the portfolio and each of its orders that changed."""
        self.time: Callable[[], datetime] = lambda: datetime.now(UTC)

    # -- what a test sets

    def portfolio(self, key_name: str, issued: Issued | None = None, **fields: Any) -> Portfolio:
        """Open a portfolio, or return the one that has this key."""
        with self.lock:
            return self.portfolios.setdefault(key_name, Portfolio(key_name, issued or self.issued, **fields))

    def price(self, symbol: str, usd: str, **members: Any) -> None:
        """List a token against USD and set its price, which buyers pay and sellers get."""
        with self.lock:
            product = f"{symbol}-USD"
            self.products[product] = self.products.get(product) or _product(symbol)
            self.products[product] |= {"price": usd, **members}

    def order_of(self, portfolio: Portfolio, client_order_id: str) -> Row:
        """Return an order by the id that was sent."""
        return next(row for row in portfolio.orders.values() if row["client_order_id"] == client_order_id)

    def fill(self, portfolio: Portfolio, client_order_id: str, size: str = "", usd: str = "") -> None:
        """Execute some or all of an order, at its product's price or at another."""
        with self.lock:
            row = self.order_of(portfolio, client_order_id)
            price = Decimal(usd or self.products[row["product_id"]]["price"])
            self._execute(portfolio, row, Decimal(size) if size else _left(row), price)

    # -- time

    def now(self) -> datetime:
        """Return the exchange's own time, which may be wrong."""
        return self.time() + self.skew

    def stamp(self) -> str:
        """Return that time as Coinbase writes it."""
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # -- orders

    def create(self, portfolio: Portfolio, body: Row) -> Row:
        """Take an order, as POST /orders does: a refusal is an answer with `success` false."""
        with self.lock:
            same = [
                row for row in portfolio.orders.values() if row["client_order_id"] == body["client_order_id"]
            ]
            if same and self.dedups:
                return _taken(same[0])
            word = self._objection(portfolio, body)
            if word:
                return {
                    "success": False,
                    "failure_reason": "UNKNOWN_FAILURE_REASON",
                    "order_id": "",
                    "error_response": {
                        "error": word,
                        "message": word.replace("_", " ").capitalize(),
                        "error_details": "",
                        "preview_failure_reason": f"PREVIEW_{word}",
                    },
                    "order_configuration": body["order_configuration"],
                }
            row = self._row(portfolio, body)
            portfolio.orders[row["order_id"]] = row
            portfolio.effects += 1
            self._tell(portfolio, row)
            if self.fills:
                self._match(portfolio, row)
            return _taken(row)

    def preview(self, portfolio: Portfolio, body: Row) -> Row:
        """Return what an order would come to, as POST /orders/preview does."""
        with self.lock:
            word = self._objection(portfolio, body)
            price = Decimal(self.products.get(body["product_id"], {}).get("price", "0"))
            size = _size(body["order_configuration"], price)
            total = size * price
            return {
                "order_total": str(total * (1 + TAKER)),
                "commission_total": str(total * TAKER),
                "errs": [f"PREVIEW_{word}"] if word else [],
                "warning": [],
                "quote_size": str(total),
                "base_size": str(size),
                "best_bid": str(price),
                "best_ask": str(price),
                "is_max": False,
                "slippage": "0",
                "preview_id": str(uuid.uuid4()),
                "est_average_filled_price": str(price),
            }

    def orders(self, portfolio: Portfolio, query: list[tuple[str, str]]) -> Row:
        """Return GET /orders/historical/batch: newest first, in pages."""
        with self.lock:
            one, many = dict(query), _many(query)
            start, end = one.get("start_date", ""), one.get("end_date", "")
            rows = [
                row
                for row in reversed(portfolio.orders.values())
                if (not start or _moment(row["created_time"]) >= _moment(start))
                and (not end or _moment(row["created_time"]) <= _moment(end))
                and _moment(row["created_time"]) + self.list_lag <= self.now()
                and all(
                    row[member] in many[name]
                    for name, member in (
                        ("order_ids", "order_id"), ("product_ids", "product_id"), ("order_status", "status"),
                        ("order_side", "side"),
                    )
                    if name in many
                )
            ]  # fmt: skip
            page, cursor = self._page(rows, one)
            for row in page:
                if self.fills and row["status"] in LIVE:
                    self._match(portfolio, row)
            return {"orders": page, "has_next": bool(cursor), "cursor": cursor, "sequence": "0"}

    def order(self, portfolio: Portfolio, order_id: str) -> Row:
        """Return one order; reading it may fill more of it."""
        with self.lock:
            row = portfolio.orders.get(order_id)
            if row is None:
                raise Refused(404, "NOT_FOUND", "order with this orderID was not found")
            if self.fills and row["status"] in LIVE:
                self._match(portfolio, row)
            return row

    def executions(self, portfolio: Portfolio, query: list[tuple[str, str]]) -> Row:
        """Return GET /orders/historical/fills: newest first, in pages."""
        with self.lock:
            many = _many(query)
            rows = portfolio.fills[: self.shown][::-1]
            for name, member in (
                ("order_ids", "order_id"),
                ("product_ids", "product_id"),
                ("trade_ids", "trade_id"),
            ):
                rows = [row for row in rows if name not in many or row[member] in many[name]]
            page, cursor = self._page(rows, dict(query))
            return {"fills": page, "cursor": cursor}

    def cancel(self, portfolio: Portfolio, order_ids: Iterable[str]) -> Row:
        """Cancel what is not filled of orders, as POST /orders/batch_cancel does."""
        with self.lock:
            results = []
            for order_id in order_ids:
                row = portfolio.orders.get(order_id)
                word = "UNKNOWN_CANCEL_FAILURE_REASON"
                if row is None:
                    word = "UNKNOWN_CANCEL_ORDER"
                elif row["status"] in ("FILLED", "CANCELLED", "EXPIRED", "FAILED"):
                    word = "INVALID_CANCEL_REQUEST"
                else:
                    self._end(row, "CANCELLED")
                success = word == "UNKNOWN_CANCEL_FAILURE_REASON"
                results.append({"success": success, "failure_reason": word, "order_id": order_id})
            return {"results": results}

    def edit(self, portfolio: Portfolio, body: Row) -> Row:
        """Change price and size of a limit order, as POST /orders/edit does."""
        with self.lock:
            row = portfolio.orders.get(body["order_id"])
            terms = row["order_configuration"].get("limit_limit_gtc") if row else None
            if row is None or terms is None or row["status"] != "OPEN":
                return {"success": False, "errors": [{"edit_failure_reason": "ORDER_NOT_FOUND"}]}
            terms |= {"base_size": body["size"], "limit_price": body["price"]}
            change = {"price": body["price"], "size": body["size"], "replace_accept_timestamp": self.stamp()}
            row["edit_history"].append(change)
            return {"success": True, "success_response": {"order_id": row["order_id"]}, "errors": []}

    # -- accounts and products

    def accounts(self, portfolio: Portfolio, query: list[tuple[str, str]]) -> Row:
        """Return GET /accounts, in pages."""
        with self.lock:
            rows = [self.account(portfolio, currency) for currency in portfolio.held]
            page, cursor = self._page(rows, dict(query))
            return {"accounts": page, "has_next": bool(cursor), "cursor": cursor, "size": len(page)}

    def account(self, portfolio: Portfolio, currency: str) -> Row:
        """Return one account of a portfolio: what it holds of one currency."""
        held = sum((_hold(row, currency) for row in portfolio.orders.values()), ZERO)
        return {
            "uuid": str(uuid.uuid5(uuid.UUID(portfolio.ident), currency)),
            "name": f"{currency} Wallet",
            "currency": currency,
            "available_balance": {"value": str(portfolio.held[currency] - held), "currency": currency},
            "default": currency == "USD",
            "active": True,
            "created_at": "2026-01-05T10:00:00Z",
            "updated_at": "2026-01-05T10:00:00Z",
            "deleted_at": None,
            "type": "ACCOUNT_TYPE_FIAT" if currency == "USD" else "ACCOUNT_TYPE_CRYPTO",
            "ready": True,
            "hold": {"value": str(held), "currency": currency},
            "retail_portfolio_id": portfolio.ident,
            "platform": "ACCOUNT_PLATFORM_CONSUMER",
        }

    def key_permissions(self, portfolio: Portfolio) -> Row:
        """Return /key_permissions; a member that a test set to None is left out."""
        row = {
            "can_view": True,
            "can_trade": True,
            "can_transfer": False,
            "portfolio_uuid": portfolio.ident,
            "portfolio_type": "CONSUMER",
            **portfolio.permissions,
        }
        return {name: value for name, value in row.items() if value is not None}

    # -- inside

    def _page(self, rows: list[Row], query: Row) -> tuple[list[Row], str]:
        size = min(int(query.get("limit") or 250), self.page or 250)
        start = int(query.get("cursor") or 0)
        end = start + size
        return rows[start:end], str(end) if end < len(rows) else ""

    def _objection(self, portfolio: Portfolio, body: Row) -> str:
        """Return the word with which an order is refused; empty for none."""
        product = self.products.get(body["product_id"])
        if product is None:
            return "INVALID_PRODUCT_ID"
        if product["trading_disabled"] or product["cancel_only"]:
            return "ORDER_ENTRY_DISABLED"
        price = Decimal(product["price"])
        terms = next(iter(body["order_configuration"].values()))
        size, base = _size(body["order_configuration"], price), body["product_id"].partition("-")[0]
        if "base_size" in terms and size % Decimal(product["base_increment"]):
            return "INVALID_SIZE_PRECISION"
        if "limit_price" in terms and Decimal(terms["limit_price"]) % Decimal(product["price_increment"]):
            return "INVALID_PRICE_PRECISION"
        if size < Decimal(product["base_min_size"]):
            return "INVALID_BASE_SIZE_TOO_SMALL"
        if body["side"] == "SELL":
            return "" if portfolio.held.get(base, ZERO) >= size else "INSUFFICIENT_FUND"
        return "" if portfolio.held.get("USD", ZERO) >= size * price * (1 + TAKER) else "INSUFFICIENT_FUND"

    def _row(self, portfolio: Portfolio, body: Row) -> Row:
        kind = next(iter(body["order_configuration"]))
        return {
            "order_id": str(uuid.uuid4()),
            "product_id": body["product_id"],
            "user_id": portfolio.ident,
            "order_configuration": body["order_configuration"],
            "side": body["side"],
            "client_order_id": body["client_order_id"],
            "status": "OPEN",
            "time_in_force": "IMMEDIATE_OR_CANCEL" if kind in AT_ONCE else "GOOD_UNTIL_CANCELLED",
            "created_time": self.stamp(),
            "completion_percentage": "0",
            "filled_size": "0",
            "average_filled_price": "0",
            "fee": "",
            "number_of_fills": "0",
            "filled_value": "0",
            "pending_cancel": False,
            "size_in_quote": "quote_size" in body["order_configuration"][kind],
            "total_fees": "0",
            "size_inclusive_of_fees": False,
            "total_value_after_fees": "0",
            "trigger_status": "INVALID_ORDER_TYPE",
            "order_type": "MARKET" if kind == "market_market_ioc" else "LIMIT",
            "reject_reason": "REJECT_REASON_UNSPECIFIED",
            "settled": False,
            "product_type": "SPOT",
            "reject_message": "",
            "cancel_message": "",
            "order_placement_source": "RETAIL_ADVANCED",
            "outstanding_hold_amount": "0",
            "is_liquidation": False,
            "last_fill_time": None,
            "edit_history": [],
            "leverage": "",
            "margin_type": "UNKNOWN_MARGIN_TYPE",
            "retail_portfolio_id": portfolio.ident,
            "originating_order_id": "",
            "attached_order_id": "",
        }

    def _match(self, portfolio: Portfolio, row: Row) -> None:
        """Fill what the market allows of a live order, and cancel the rest of an immediate one."""
        kind, terms = next(iter(row["order_configuration"].items()))
        price = Decimal(self.products[row["product_id"]]["price"])
        limit = Decimal(terms["limit_price"]) if "limit_price" in terms else None
        if kind.startswith(("stop_limit", "trigger_bracket")):
            return
        reached = limit is None or (price <= limit if row["side"] == "BUY" else price >= limit)
        if reached:
            left = self._left(row, price)
            self._execute(portfolio, row, min(left, self.depth) if self.depth else left, price)
        if row["status"] == "OPEN" and (
            (kind in AT_ONCE and (self.cancels_rest or not reached))
            or (kind == "limit_limit_fok" and not reached)
        ):
            self._end(row, "CANCELLED")

    def _left(self, row: Row, price: Decimal) -> Decimal:
        return _size(row["order_configuration"], price) - Decimal(row["filled_size"])

    def _execute(self, portfolio: Portfolio, row: Row, size: Decimal, price: Decimal) -> None:
        value, base = size * price, row["product_id"].partition("-")[0]
        fee, sign = value * TAKER, 1 if row["side"] == "BUY" else -1
        portfolio.held[base] = portfolio.held.get(base, ZERO) + sign * size
        portfolio.held["USD"] = portfolio.held.get("USD", ZERO) - sign * value - fee
        at = self.stamp()
        number = len(portfolio.fills) + 1
        portfolio.fills.append(
            {
                "entry_id": str(uuid.uuid5(uuid.UUID(row["order_id"]), str(number))),
                "trade_id": f"{portfolio.ident[:8]}-{number}",
                "order_id": row["order_id"],
                "trade_time": at,
                "trade_type": "FILL",
                "price": str(price),
                "size": str(size),
                "commission": str(fee),
                "product_id": row["product_id"],
                "sequence_timestamp": at,
                "liquidity_indicator": "TAKER",
                "size_in_quote": False,
                "user_id": portfolio.ident,
                "side": row["side"],
                "retail_portfolio_id": portfolio.ident,
            }
        )
        filled, worth = Decimal(row["filled_size"]) + size, Decimal(row["filled_value"]) + value
        row |= {
            "filled_size": str(filled),
            "filled_value": str(worth),
            "average_filled_price": str(worth / filled),
            "number_of_fills": str(int(row["number_of_fills"]) + 1),
            "total_fees": str(Decimal(row["total_fees"]) + fee),
            "last_fill_time": at,
        }
        if self._left(row, price) <= 0:
            self._end(row, "FILLED")
        self._tell(portfolio, row)

    def _tell(self, portfolio: Portfolio, row: Row) -> None:
        for update in self.updates:
            update(portfolio, row)

    def _end(self, row: Row, word: str) -> None:
        row |= {"status": word, "settled": True, "completion_percentage": "100" if word == "FILLED" else "0"}


def _taken(row: Row) -> Row:
    names = ("order_id", "product_id", "side", "client_order_id")
    return {
        "success": True,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": row["order_id"],
        "success_response": {**{name: row[name] for name in names}, "attached_order_id": ""},
        "order_configuration": row["order_configuration"],
    }


def _product(symbol: str) -> Row:
    return {
        "product_id": f"{symbol}-USD",
        "price": "0",
        "price_percentage_change_24h": "0",
        "volume_24h": "1000",
        "volume_percentage_change_24h": "0",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "10000000",
        "base_min_size": "0.00000001",
        "base_max_size": "100000",
        "base_name": symbol,
        "quote_name": "US Dollar",
        "watched": False,
        "is_disabled": False,
        "new": False,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": "USD",
        "base_currency_id": symbol,
        "fcm_trading_session_details": None,
        "mid_market_price": "",
        "alias": f"{symbol}-USDC",
        "alias_to": [],
        "base_display_symbol": symbol,
        "quote_display_symbol": "USD",
        "view_only": False,
        "price_increment": "0.01",
        "display_name": f"{symbol}-USD",
    }


def _size(configuration: Row, price: Decimal) -> Decimal:
    """Return the tokens of an order; one of a quote size gets what it buys at the price."""
    terms = next(iter(configuration.values()))
    if "base_size" in terms:
        return Decimal(terms["base_size"])
    return (Decimal(terms["quote_size"]) / price).quantize(Decimal("1e-8")) if price else ZERO


def _left(row: Row) -> Decimal:
    return _size(row["order_configuration"], ZERO) - Decimal(row["filled_size"])


def _hold(row: Row, currency: str) -> Decimal:
    """Return what an open limit order holds of a currency."""
    terms = next(iter(row["order_configuration"].values()))
    if row["status"] not in LIVE or "limit_price" not in terms:
        return ZERO
    left = _left(row)
    if row["side"] == "SELL":
        return left if row["product_id"].startswith(f"{currency}-") else ZERO
    return left * Decimal(terms["limit_price"]) if currency == "USD" else ZERO


def _many(query: list[tuple[str, str]]) -> dict[str, set[str]]:
    many: dict[str, set[str]] = {}
    for name, value in query:
        many.setdefault(name, set()).add(value)
    return many


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
