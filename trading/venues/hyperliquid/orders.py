"""Orders in Hyperliquid's words: the action that is signed, and the report that follows from an order and its fills.

Market orders are immediate-or-cancel limit orders; their price bounds the slippage. An order is reported as ended only
when its fills add up to what its status says was filled, for the fills may come later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import structlog

from maxxit.core import clock
from maxxit.core.money import ZERO
from maxxit.core.terms import OrderSide, Purpose
from trading.reasons import Reason
from trading.states import OrderState
from trading.venues.base import Report, Request, VenueFill
from trading.venues.hyperliquid.markets import Market
from trading.venues.hyperliquid.wire import Builder, cloid_of, compact, number, round_price, round_size

log = structlog.get_logger(__name__)
Row = Mapping[str, Any]

CANCELED = frozenset(
    {
        "canceled", "scheduledCancel", "internalCancel", "marginCanceled", "selfTradeCanceled",
        "reduceOnlyCanceled", "siblingFilledCanceled", "delistedCanceled", "liquidatedCanceled",
        "openInterestCapCanceled", "vaultWithdrawalCanceled", "outcomeSettledCanceled",
    }
)  # fmt: skip
REJECTED = {
    "rejected": Reason.REFUSED_BY_VENUE,
    "tickRejected": Reason.REFUSED_BY_VENUE,
    "minTradeNtlRejected": Reason.BELOW_MINIMUM,
    "perpMarginRejected": Reason.INSUFFICIENT_BALANCE,
    "reduceOnlyRejected": Reason.NO_POSITION,
    "badAloPxRejected": Reason.REFUSED_BY_VENUE,
    "iocCancelRejected": Reason.NOT_MATCHED,
    "badTriggerPxRejected": Reason.REFUSED_BY_VENUE,
    "marketOrderNoLiquidityRejected": Reason.NOT_MATCHED,
    "oracleRejected": Reason.REFUSED_BY_VENUE,
    "perpMaxPositionRejected": Reason.REFUSED_BY_VENUE,
    "tooManyOpenOrdersRejected": Reason.REFUSED_BY_VENUE,
    "insufficientSpotBalanceRejected": Reason.INSUFFICIENT_BALANCE,
}
"""Hyperliquid's words for an order that it refused -> our reason."""
PENDING = frozenset({"open", "triggered"})
LATE_FILLS = timedelta(minutes=10)
"""How long after its last status an ended order waits for fills that are not shown."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An order's size and price limit, rounded as its market requires."""

    size: Decimal
    """Tokens; zero where the quantity is below the market's smallest size."""
    price: Decimal
    """USD; a buy pays no more and a sale gets no less."""

    @property
    def notional(self) -> Decimal:
        """What it may trade, USD."""
        return self.size * self.price


def limit_of(request: Request, market: Market, slippage: Decimal) -> Limit:
    """Return size and price limit: `slippage` (fraction) from the reference price, rounded towards it."""
    buys = request.side == OrderSide.BUY
    price = request.reference_price * (1 + slippage if buys else 1 - slippage)
    rounding = ROUND_FLOOR if buys else ROUND_CEILING
    return Limit(
        round_size(request.quantity, market.sz_decimals), round_price(price, market.sz_decimals, rounding)
    )


LEG = "+"
"""Between our order id and the exit reason in the id of an exit that the venue keeps."""
TPSL = {"stop_loss": "sl", "take_profit": "tp"}
"""Exit reason -> Hyperliquid's word for the trigger."""


def leg_id(client_order_id: str, reason: str) -> str:
    """Return our id of an exit that the venue keeps for an entry."""
    return f"{client_order_id}{LEG}{reason}"


def leg_wires(request: Request, market: Market, limit: Limit, slippage: Decimal) -> list[dict[str, Any]]:
    """Return the stop and the target of an entry as reduce-only trigger orders; they execute at the market.

    `slippage`: fraction that their price limit may be worse than the trigger.
    """
    buys = request.side != OrderSide.BUY
    wires = []
    for reason, level in (("take_profit", request.target), ("stop_loss", request.stop)):
        if level is None or request.purpose != Purpose.OPEN:
            continue
        trigger = round_price(level, market.sz_decimals)
        worst = trigger * (1 + slippage if buys else 1 - slippage)
        rounding = ROUND_FLOOR if buys else ROUND_CEILING
        wires.append(
            {
                "a": market.asset,
                "b": buys,
                "p": number(round_price(worst, market.sz_decimals, rounding)),
                "s": number(limit.size),
                "r": True,
                "t": {"trigger": {"isMarket": True, "triggerPx": number(trigger), "tpsl": TPSL[reason]}},
                "c": cloid_of(leg_id(request.client_order_id, reason)),
            }
        )
    return wires


def order_action(
    request: Request,
    market: Market,
    limit: Limit,
    builder: Builder | None,
    legs: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the JSON of the action, keys in the order that is signed. Exits only ever reduce a position.

    `legs`: exits that the venue keeps, which it activates once the entry is completely filled.
    """
    order = {
        "a": market.asset,
        "b": request.side == OrderSide.BUY,
        "p": number(limit.price),
        "s": number(limit.size),
        "r": request.purpose == Purpose.CLOSE,
        "t": {"limit": {"tif": "Ioc"}},
        "c": cloid_of(request.client_order_id),
    }
    grouping = "normalTpsl" if legs else "na"
    action: dict[str, Any] = {"type": "order", "orders": [order, *legs], "grouping": grouping}
    if builder is not None:
        action["builder"] = builder.wire()
    return compact(action)


def leverage_action(market: Market, leverage: int) -> str:
    """Return the JSON of the action that sets isolated margin and leverage of a market."""
    return compact({"type": "updateLeverage", "asset": market.asset, "isCross": False, "leverage": leverage})


def cancel_action(market: Market, client_order_ids: Sequence[str]) -> str:
    """Return the JSON of the action that cancels orders of a market by our ids."""
    cancels = [{"asset": market.asset, "cloid": cloid_of(one)} for one in client_order_ids]
    return compact({"type": "cancelByCloid", "cancels": cancels})


def report_of(found: Row, fills: Sequence[Row], *, takes_fee: bool) -> Report:
    """Return where an order stands.

    Args:
        found: `order` of an orderStatus answer: the order, its status and when it got it.
        fills: the account's fills of this order, oldest first.
        takes_fee: orders carry our builder fee.
    """
    status = str(found["status"])
    executions = tuple(fill_of(row, takes_fee=takes_fee) for row in fills)
    known = sum((fill.quantity for fill in executions), ZERO)
    if is_open(found) and status not in PENDING:
        log.warning("order_status_unknown", venue="hyperliquid", status=status, order=found["order"]["oid"])
    if not has_ended(found, known):
        return Report(OrderState.PARTIALLY_FILLED if executions else OrderState.ACCEPTED, executions)
    if status in REJECTED and not known:
        return Report(OrderState.REJECTED, executions, REJECTED[status])
    whole = known >= Decimal(found["order"]["origSz"])
    return Report(OrderState.FILLED if whole else OrderState.CANCELED, executions)


def is_open(found: Row) -> bool:
    """Return whether an order may still execute; one of an unknown status may."""
    return found["status"] != "filled" and found["status"] not in CANCELED and found["status"] not in REJECTED


def has_fills(found: Row) -> bool:
    """Return whether some of an order may have been executed."""
    return found["status"] == "filled" or Decimal(found["order"]["sz"]) != Decimal(found["order"]["origSz"])


def has_ended(found: Row, known: Decimal) -> bool:
    """Return whether an order executes no more and `known`, the tokens of its fills so far, is all that it filled.

    Fills that are not shown `LATE_FILLS` after its last status are waited for no longer.
    """
    if is_open(found):
        return False
    expected = _filled_by_status(found)
    if known < expected:
        if clock.now() < moment(found["statusTimestamp"]) + LATE_FILLS:
            return False
        log.error(
            "fills_missing", venue="hyperliquid", order=found["order"]["oid"], filled=str(known),
            of=str(expected),
        )  # fmt: skip
    return True


def _filled_by_status(found: Row) -> Decimal:
    """Return what an ended order's own row says was filled, tokens."""
    original, remaining = Decimal(found["order"]["origSz"]), Decimal(found["order"]["sz"])
    if found["status"] == "filled":
        return original - remaining or original
    return original - remaining if found["status"] in CANCELED else ZERO


def fill_of(row: Row, *, takes_fee: bool) -> VenueFill:
    """Return one execution. Hyperliquid's `fee` contains the builder's."""
    quantity, price = Decimal(row["sz"]), Decimal(row["px"])
    builder_fee = Decimal(row.get("builderFee") or 0)
    return VenueFill(
        fill_id=str(row["tid"]),
        quantity=quantity,
        price=price,
        cash=quantity * price,
        fee=Decimal(row["fee"]) - builder_fee,
        at=moment(row["time"]),
        platform_fee=builder_fee if takes_fee else None,
    )


def moment(milliseconds: Any) -> datetime:
    """Parse one of Hyperliquid's times."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
