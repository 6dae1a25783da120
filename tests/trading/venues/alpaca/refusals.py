"""What Alpaca refuses, with the codes of its documents."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
LIVE = frozenset({"new", "accepted", "pending_new", "partially_filled", "held"})
CANCELABLE = LIVE | {"pending_cancel"}
"""Of which some may still fill, or end otherwise."""


CENT = Decimal("0.01")


class Refused(Exception):
    """An error answer: HTTP status, Alpaca's code, its message and further members."""

    def __init__(self, status: int, code: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, **more}


def check_terms(body: Row) -> None:
    """Refuse an order whose members are missing or do not go together."""
    for name in ("symbol", "side", "type", "time_in_force"):
        if not body.get(name):
            raise Refused(422, 40010001, f"{name} is required")
    if bool(body.get("qty")) == bool(body.get("notional")):
        raise Refused(422, 40010001, "qty or notional is required")
    if Decimal(str(body.get("qty") or body["notional"])) <= 0:
        raise Refused(422, 40010001, "qty must be > 0")
    if body["type"] in ("limit", "stop_limit") and not body.get("limit_price"):
        raise Refused(422, 40010001, f"{body['type']} orders require limit price")
    _check_class(body)
    if body.get("extended_hours") and (body["type"], body["time_in_force"]) != ("limit", "day"):
        raise Refused(422, 42210000, "extended hours order must be DAY limit orders")


def _check_class(body: Row) -> None:
    kind = body.get("order_class") or "simple"
    target, stop = (body.get("take_profit") or {}), (body.get("stop_loss") or {})
    if kind in ("bracket", "oco"):
        if not target.get("limit_price"):
            raise Refused(422, 40010001, f"{kind} orders require take_profit.limit_price")
        if not stop.get("stop_price"):
            raise Refused(422, 40010001, f"{kind} orders require stop_loss.stop_price")
    if kind == "oco" and body["type"] != "limit":
        raise Refused(422, 42210000, "oco orders must be of type limit")
    if kind == "oto" and bool(target.get("limit_price")) == bool(stop.get("stop_price")):
        raise Refused(
            422, 40010001, "oto orders require either take_profit.limit_price or stop_loss.stop_price"
        )
    if kind != "simple" and "/" not in body["symbol"] and body["time_in_force"] not in ("day", "gtc"):
        raise Refused(422, 42210000, f"{kind} orders must have time_in_force day or gtc")


def check_account(flags: Row, configurations: Row) -> None:
    """Refuse every order of an account that may not trade."""
    if configurations["suspend_trade"] or flags["trade_suspended_by_user"]:
        raise Refused(403, 40310000, "new orders are rejected by user request")
    if flags["trading_blocked"] or flags["account_blocked"] or flags["status"] != "ACTIVE":
        raise Refused(403, 40310000, "account is not allowed to trade")


def check_asset(row: Row, asset: Row, held: Decimal) -> None:
    """Refuse what the asset does not allow, or the quantity held (negative for a short)."""
    if not asset["tradable"]:
        raise Refused(403, 40310000, f"asset {row['symbol']} is not tradable")
    if row["asset_class"] == "crypto":
        _check_crypto(row, held)
    else:
        _check_stock(row, held)
    reduces = bool(held) and (held > 0) == (row["side"] == "sell")
    if row["order_class"] in ("bracket", "oto") and reduces:
        raise Refused(422, 42210000, "bracket orders must be entry orders")
    if row["order_class"] == "oco" and not reduces:
        raise Refused(422, 42210000, "oco orders must be exit orders")


def _check_crypto(row: Row, held: Decimal) -> None:
    if row["order_class"] != "simple":
        raise Refused(422, 42210000, "crypto orders not allowed for advanced order_class")
    if row["time_in_force"] not in ("gtc", "ioc"):
        raise Refused(422, 42210000, "invalid crypto time_in_force")
    if row["side"] == "sell" and Decimal(row["qty"]) > held:
        coin = row["symbol"].partition("/")[0]
        message = (
            f"insufficient balance for {coin} (requested: {row['qty']}, available: {held.normalize():f})"
        )
        raise Refused(403, 40310000, message, symbol="USD", available=str(held), balance=str(held))


def _check_stock(row: Row, held: Decimal) -> None:
    if Decimal(row["qty"]) % 1 == 0:
        return
    if row["order_class"] != "simple" or row["time_in_force"] != "day":
        raise Refused(422, 42210000, "fractional orders must be DAY orders")
    if row["side"] == "sell" and Decimal(row["qty"]) > held:
        raise Refused(422, 42210000, "fractional orders cannot be sold short")


def check_available(row: Row, held: Decimal, orders: Iterable[Row]) -> None:
    """Refuse to sell shares that open orders already hold; the legs of one bracket hold them together, once."""
    if row["asset_class"] == "crypto" or row["side"] != "sell" or held <= 0:
        return
    waiting: dict[str, Decimal] = {}
    for other in orders:
        if (other["symbol"], other["side"]) == (row["symbol"], "sell") and other["status"] in CANCELABLE - {
            "held"
        }:
            left = Decimal(other["qty"]) - Decimal(other["filled_qty"])
            group = other.get("parent") or other["id"]
            waiting[group] = max(left, waiting.get(group, Decimal(0)))
    available = held - sum(waiting.values())
    if waiting and Decimal(row["qty"]) > available:
        raise Refused(
            403,
            40310000,
            f"insufficient qty available for order (requested: {row['qty']}, available: {available.normalize():f})",
            symbol=row["symbol"],
            available=str(available),
            existing_qty=str(held),
            held_for_orders=str(held - available),
        )


def check_levels(row: Row, body: Row, price: Decimal) -> None:
    """Refuse a bracket whose stop or target is not a cent beyond the price."""
    if row["order_class"] not in ("bracket", "oto"):
        return
    sign = 1 if row["side"] == "buy" else -1
    base = Decimal(row["limit_price"]) if row["limit_price"] else price
    target = (body.get("take_profit") or {}).get("limit_price")
    stop = (body.get("stop_loss") or {}).get("stop_price")
    if target and sign * (Decimal(str(target)) - base) < CENT:
        raise Refused(422, 42210000, "take_profit.limit_price must be >= base_price + 0.01")
    if stop and sign * (base - Decimal(str(stop))) < CENT:
        raise Refused(422, 42210000, "stop_loss.stop_price must be <= base_price - 0.01")


def check_other_side(row: Row, orders: Iterable[Row]) -> None:
    """Refuse an order that could trade with an open one of the same account."""
    for other in orders:
        same = other["symbol"] == row["symbol"] and other["side"] != row["side"]
        if same and other["status"] in LIVE and row["order_class"] == "simple":
            raise Refused(
                422,
                42210000,
                "potential wash trade detected. use complex orders",
                existing_order_id=other["id"],
                reject_reason="opposite side market/stop order exists",
            )


def check_cost(row: Row, price: Decimal, power: Decimal) -> None:
    """Refuse a buy beyond the buying power, USD."""
    cost = Decimal(row["qty"]) * price
    if row["side"] == "buy" and cost > power:
        raise Refused(
            403, 40310000, "insufficient buying power", buying_power=f"{power:.2f}", cost_basis=f"{cost:.2f}"
        )
