"""Convert orders into calls of the trading module, and the module's events into fills.

Amounts are integer base units on chain and Decimal whole units elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO
from maxxit.core.terms import BPS, Purpose
from maxxit.evm.rpc import Chain, Fault
from trading.chain.chains import Contracts
from trading.chain.models import ChainTransaction
from trading.chain.outbox import Call
from trading.chain.states import TxState
from trading.models import Fill
from trading.reasons import Reason
from trading.venues.base import Request, VenueFill
from trading.venues.safe import pools
from trading.venues.safe.contract import module as m
from trading.venues.safe.units import USDC_DECIMALS, base, whole

PLACES = Decimal(1).scaleb(-18)
"""Precision of a price column."""


@dataclass(frozen=True, slots=True)
class Trade:
    """The terms of one trade, as stored with the intent."""

    safe: str
    trade_id: str
    """0x hex; the module accepts each id once."""
    purpose: str
    """open or close."""
    symbol: str
    token: str
    decimals: int
    amount: int
    """Open: USDC to spend. Close: tokens to sell. Base units."""
    deadline: int
    """Unix time."""

    @classmethod
    def of(cls, request: Request, places: Contracts) -> Self:
        """Build the terms from an order. Raises Rejected where the chain does not have the token."""
        token = places.tokens.get(request.symbol)
        if token is None:
            raise Rejected(
                f"{request.symbol} is not among the tokens of config/chains.yaml for this chain",
                code=Reason.TOKEN_NOT_LISTED,
            )
        if request.purpose == Purpose.OPEN:
            amount = base(request.quantity * request.reference_price, USDC_DECIMALS)
        else:
            amount = base(request.quantity, token.decimals)
        deployment, _, signal = request.trade.partition("/")
        return cls(
            safe=request.account,
            trade_id="0x" + m.trade_id(deployment, signal).hex(),
            purpose=request.purpose,
            symbol=request.symbol,
            token=token.address,
            decimals=token.decimals,
            amount=amount,
            deadline=int(request.deadline.timestamp()),
        )

    @classmethod
    def load(cls, terms: Mapping[str, Any]) -> Self:
        """Load the terms from a stored intent."""
        return cls(**terms)

    def as_terms(self) -> dict[str, Any]:
        """Return the terms to store."""
        return asdict(self)


def quote(chain: Chain, places: Contracts, trade: Trade, pool_fee: int) -> int:
    """Return QuoterV2's output amount in base units. Raises Rejected where the pool cannot fill it."""
    sell, buy = (places.usdc, trade.token) if trade.purpose == Purpose.OPEN else (trade.token, places.usdc)
    return _quoted(chain, places, trade.symbol, sell, buy, trade.amount, pool_fee)


def expected(chain: Chain, places: Contracts, safe: str, symbol: str, usdc: int) -> int:
    """Return the tokens that `usdc` buys now in the pool of the Safe's policy; both in base units.

    Raises Rejected where the policy does not list the token or the pool cannot fill it.
    """
    return bought(
        chain, places, symbol, usdc, _pool_fee(chain, places, safe, places.tokens[symbol].address, symbol)
    )


def bought(chain: Chain, places: Contracts, symbol: str, usdc: int, pool_fee: int) -> int:
    """Return the tokens that `usdc` buys now in the pool of a fee tier; both in base units.

    Raises Rejected where the pool cannot fill it.
    """
    return _quoted(chain, places, symbol, places.usdc, places.tokens[symbol].address, usdc, pool_fee)


def _quoted(chain: Chain, places: Contracts, symbol: str, sell: str, buy: str, amount: int, fee: int) -> int:
    try:
        received = pools.quote(chain, places, sell, buy, amount, fee)
    except Fault as error:
        raise Rejected(f"the pool of {symbol} gives no quote: {error}", code=Reason.NO_QUOTE) from error
    if received == 0:
        raise Rejected(f"the pool of {symbol} would return nothing for this amount", code=Reason.NO_QUOTE)
    return received


def call_of(chain: Chain, places: Contracts, trade: Trade, *, executor: str, slippage_bps: int) -> Call:
    """Return the module call with its minimum output, after a trial by `eth_call`.

    Minimum output = quote × (1 - slippage_bps / 10,000), base units. Raises Rejected with the module's reason code.
    """
    fee = _pool_fee(chain, places, trade.safe, trade.token, trade.symbol)
    min_out = quote(chain, places, trade, fee) * (BPS - slippage_bps) // BPS
    trade_id = bytes.fromhex(trade.trade_id[2:])
    if trade.purpose == Purpose.OPEN:
        data = m.open_data(trade.safe, trade_id, trade.token, trade.amount, min_out, trade.deadline)
    else:
        data = m.close_data(trade.safe, trade_id, min_out, trade.deadline, trade.amount)
    chain.call(
        places.module, data, sender=executor, block="pending"
    )  # with the timestamp of the block it would be in
    return Call(places.module, data)


def _pool_fee(chain: Chain, places: Contracts, safe: str, token: str, symbol: str) -> int:
    """Return the fee tier, in millionths, that the Safe's policy names for the token."""
    fee = m.decode_pool_fee(chain.call(places.module, m.rule_data(safe, token)))
    if fee == 0:
        raise Rejected(f"the Safe's policy does not list {symbol}", code=Reason.TOKEN_NOT_LISTED)
    return fee


def fills_of(tx: ChainTransaction) -> tuple[VenueFill, ...]:
    """Return the fills of a final transaction from the module's events."""
    trade = Trade.load(tx.terms)
    trade_id = bytes.fromhex(trade.trade_id[2:])
    return tuple(
        _fill(tx, trade, log)
        for log in m.decode_logs(tx.logs, tx.to)
        if log.name in ("PositionOpened", "PositionClosed") and log.args["trade_id"] == trade_id
    )


def unbooked(chain_id: int, safe: str, after: int) -> Iterator[str]:
    """Yield the intents of final transactions since block `after` with a fill that is not booked."""
    ours = ChainTransaction.objects.filter(chain_id=chain_id, terms__safe=safe, block_number__gt=after)
    for tx in ours.filter(state=TxState.FINAL).iterator():
        ids = [fill.fill_id for fill in fills_of(tx)]
        if Fill.objects.filter(venue_fill_id__in=ids).count() != len(ids):
            yield tx.idempotency_key


def _fill(tx: ChainTransaction, trade: Trade, log: m.Log) -> VenueFill:
    args, opened = log.args, log.name == "PositionOpened"
    quantity = whole(args["quantity"], trade.decimals)
    cash = whole(args["usdc_in" if opened else "usdc_out"], USDC_DECIMALS)
    return VenueFill(
        fill_id=f"{tx.mined_hash}:{log.index}",
        quantity=quantity,
        price=(cash / quantity).quantize(PLACES),
        cash=cash,
        fee=ZERO,
        at=_block_time(tx),
        platform_fee=whole(args["fee"], USDC_DECIMALS) if opened else ZERO,
        profit_share=ZERO if opened else whole(args["share"], USDC_DECIMALS),
        share_receiver="" if opened else args["profit_receiver"],
    )


def _block_time(tx: ChainTransaction) -> datetime:
    """Return the block's time where the node gives it with the logs, else when the receipt was recorded."""
    stamp = next((log["blockTimestamp"] for log in tx.logs if log.get("blockTimestamp")), None)
    return datetime.fromtimestamp(int(stamp, 16), UTC) if stamp else tx.updated_at
