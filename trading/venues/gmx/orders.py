"""Convert orders into calls of the PerpModule, and what GMX did with them into reports.

Sizes, prices and fees in calls are integers in GMX's units (`trading.venues.gmx.units`), USDC in base units.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Self

from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO
from maxxit.core.terms import BPS, OrderSide, Purpose
from maxxit.evm.rpc import Fault
from trading.chain.chains import GmxContracts
from trading.chain.models import ChainTransaction
from trading.reasons import Reason
from trading.venues.base import Report, Request, VenueFill
from trading.venues.gmx import books
from trading.venues.gmx.books import Account, Execution
from trading.venues.gmx.calls import PositionState
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.events import OrderCancelled, OrderExecuted, decode_logs
from trading.venues.gmx.models import GmxTransaction
from trading.venues.gmx.refusals import refusal_of
from trading.venues.gmx.scan import share_of
from trading.venues.gmx.units import price_units, size_of
from trading.venues.safe.contract import module as m
from trading.venues.safe.units import USDC_DECIMALS, base, whole

STOP, TARGET = "stop_loss", "take_profit"
LEG_KEYS = {STOP: "stop_key", TARGET: "target_key"}
"""Exit reason -> its key in PositionRequested."""
NO_KEY = "0x" + "00" * 32


@dataclass(frozen=True, slots=True)
class PerpTrade:
    """The terms of one order, as stored with its intent."""

    venue: str
    account: str
    safe: str
    trade_id: str
    """0x hex; the module accepts each id once."""
    purpose: str
    """open or close."""
    symbol: str
    market: str
    decimals: int
    """Of the index token."""
    is_long: bool
    quantity: str
    """Tokens, whole units."""
    size_usd: int
    """Of an entry, USD × 10^30."""
    collateral: int
    """Of an entry, USDC in base units."""
    stop_price: int
    """Of an entry; 0: none."""
    target_price: int
    deadline: int
    """Unix time."""

    @classmethod
    def of(cls, request: Request, safe: str, gmx: GmxContracts, venue: str) -> Self:
        """Build the terms from an order. Raises Rejected where the market is not traded on the chain."""
        market = gmx.markets.get(request.symbol)
        if market is None:
            raise Rejected(
                f"{request.symbol} is not among the markets of gmx in config/chains.yaml for this chain",
                code=Reason.TOKEN_NOT_LISTED,
            )
        opens = request.purpose == Purpose.OPEN
        notional = request.quantity * request.reference_price
        margin = (notional / max(request.leverage, Decimal(1))).scaleb(USDC_DECIMALS)
        deployment, _, signal = request.trade.partition("/")
        is_long = (request.side == OrderSide.BUY) == opens
        return cls(
            venue=venue,
            account=request.account,
            safe=safe,
            trade_id="0x" + m.trade_id(deployment, signal).hex(),
            purpose=request.purpose,
            symbol=request.symbol,
            market=market.market,
            decimals=market.decimals,
            is_long=is_long,
            quantity=f"{request.quantity:f}",
            size_usd=size_of(notional) if opens else 0,
            collateral=int(margin.to_integral_value(rounding=ROUND_CEILING)) if opens else 0,
            stop_price=_trigger(request.stop, market.decimals, up=is_long),
            target_price=_trigger(request.target, market.decimals, up=not is_long),
            deadline=int(request.deadline.timestamp()),
        )

    @classmethod
    def load(cls, terms: Mapping[str, Any]) -> Self:
        """Load the terms from a stored intent."""
        return cls(**terms)

    def as_terms(self) -> dict[str, Any]:
        """Return the terms to store."""
        return asdict(self)

    @property
    def trade(self) -> bytes:
        """The trade id."""
        return bytes.fromhex(self.trade_id[2:])

    @property
    def tokens(self) -> int:
        """The order's quantity in base units of the index token."""
        return base(Decimal(self.quantity), self.decimals)

    @property
    def buys(self) -> bool:
        """Whether tokens are bought."""
        return self.is_long == (self.purpose == Purpose.OPEN)


def _trigger(price: Decimal | None, decimals: int, *, up: bool) -> int:
    return 0 if price is None else price_units(price, decimals, up=up)


def acceptable_price(feed_price: int, bps: int, *, buys: bool) -> int:
    """Return the worst price at which an order is executed: `bps` basis points from the feed's, rounded to its side."""
    if buys:
        return feed_price * (BPS + bps) // BPS
    return -(-feed_price * (BPS - bps) // BPS)


def open_data(trade: PerpTrade, acceptable: int, fee: int) -> tuple[bytes, int]:
    """Return calldata and value (wei) of an entry with its stop and target."""
    opening = p.Opening(
        trade.trade, trade.market, trade.is_long, trade.collateral, trade.size_usd, acceptable, trade.stop_price,
        trade.target_price, fee,
    )  # fmt: skip
    return p.open_data(trade.safe, opening, trade.deadline), opening.value


def close_data(
    trade: PerpTrade, position: PositionState | None, acceptable: int, fee: int
) -> tuple[bytes, int]:
    """Return calldata and value (wei) of a close: all, or the part of the position that the quantity is.

    Raises Rejected where GMX shows no position.
    """
    if position is None or not position.size_tokens:
        raise Rejected(f"GMX shows no position of {trade.safe} in {trade.symbol}", code=Reason.NO_POSITION)
    size = p.ALL
    if trade.tokens < position.size_tokens:
        size = position.size_usd * trade.tokens // position.size_tokens
    data = p.close_data(
        trade.safe, trade.trade, acceptable_price=acceptable, execution_fee=fee, deadline=trade.deadline, size_usd=size
    )  # fmt: skip
    return data, fee


# -- what became of them


def requested(tx: ChainTransaction) -> Mapping[str, Any]:
    """Return the module's event with the keys of the orders that a final transaction created; empty for none."""
    trade = bytes.fromhex(tx.terms.get("trade_id", "")[2:])
    for entry in p.decode_logs(tx.logs, tx.to):
        if entry.name in ("PositionRequested", "CloseRequested") and entry.args["trade_id"] == trade:
            args: Mapping[str, Any] = entry.args
            return args
    return {}


def keys_of(tx: ChainTransaction) -> list[str]:
    """Return the keys of all orders at GMX that a final transaction created."""
    args = requested(tx)
    keys = [hex_key(args.get(name, b"")) for name in ("order_key", *LEG_KEYS.values())]
    return [key for key in keys if key]


def key_of(tx: ChainTransaction) -> str:
    """Return the key of the order itself, not of its exits; empty where the transaction created none."""
    return hex_key(requested(tx).get("order_key", b""))


def rejection_of(fault: Fault) -> Rejected:
    """Return the refusal of a trial call with the module's or GMX's reason."""
    if not fault.reason.startswith("0x"):
        return fault
    refusal = refusal_of("", fault.reason)
    return Rejected(f"GMX would refuse it: {refusal}", code=code_of(refusal.name))


def hex_key(key: bytes) -> str:
    """Return an order's key as text; empty for none."""
    text = "0x" + bytes(key).hex()
    return "" if text == NO_KEY else text


@dataclass(frozen=True, slots=True)
class Ended:
    """How an order ended: executed with these fills, or cancelled for a reason."""

    fills: tuple[VenueFill, ...] = ()
    asked: bool = False
    """It was cancelled by us, by its owner, or with its position; not because its execution failed."""
    reason: str = ""
    """Code of the cancellation; empty where it was executed."""
    detail: str = ""
    """The reason with its values, for people."""
    at: datetime | None = None
    """Time of the block in which it ended."""


def ending_of(
    key: str, rows: Sequence[GmxTransaction], account: Account, emitter: str, module: str, decimals: int,
    fee: Decimal = ZERO,
) -> Ended | None:  # fmt: skip
    """Return how an order ended, from the kept transactions that name its key; None while it has not.

    Args:
        fee: the platform fee in USDC that was paid with the order.
    """
    for row in rows:
        decoded = decode_logs(row.logs, emitter)
        if any(one.key == key for one in decoded.of(OrderExecuted)):
            executed = [one for one in books.executions(decoded, account) if one.order_key == key]
            share, receiver = (
                share_of(row, module) if any(not one.increases for one in executed) else (ZERO, "")
            )
            fills = tuple(
                fill_of(one, row, decimals, fee=fee, share=share, receiver=receiver)
                for one in executed
                if one.tokens
            )
            return Ended(fills, at=row.at)
        for one in decoded.of(OrderCancelled):
            if one.key == key:
                refusal = refusal_of(one.reason, one.reason_bytes)
                return Ended(
                    asked=bool(one.reason), reason=code_of(refusal.name), detail=str(refusal), at=row.at
                )
    return None


def code_of(name: str) -> str:
    """Return GMX's name of an error as a reason code: OrderNotFound -> order_not_found."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace(" ", "_")[:60]


def fill_of(
    one: Execution, row: GmxTransaction, decimals: int, *, fee: Decimal = ZERO, share: Decimal = ZERO,
    receiver: str = "",
) -> VenueFill:  # fmt: skip
    """Return a change of a position as a fill. Funding and borrowing are booked by the scan."""
    return VenueFill(
        fill_id=f"{row.hash}:{one.index}",
        quantity=whole(one.tokens, decimals),
        price=one.price(decimals),
        cash=one.cash,
        fee=one.fee,
        at=row.at,
        platform_fee=fee,
        profit_share=share,
        share_receiver=receiver if share else "",
    )


def report_of(ended: Ended | None) -> Report:
    """Return an order's report; while it has not ended, GMX has accepted it."""
    if ended is None:
        return Report("accepted")
    if ended.reason:
        return Report("canceled" if ended.asked else "rejected", reason=ended.reason)
    return (
        Report("filled", ended.fills) if ended.fills else Report("rejected", reason=Reason.NO_FILL_IN_RECEIPT)
    )


def created_at(tx: ChainTransaction) -> datetime | None:
    """Return the time of the block that has the order; None where its logs do not tell."""
    stamp = next((entry["blockTimestamp"] for entry in tx.logs if entry.get("blockTimestamp")), None)
    return datetime.fromtimestamp(int(stamp, 16), UTC) if stamp else None
