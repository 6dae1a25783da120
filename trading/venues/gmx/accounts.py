"""Read what Safes hold at GMX: USDC, orders, positions and their margin (ADR 30)."""

from collections.abc import Sequence
from decimal import Decimal

from maxxit.core.money import USDC, ZERO
from maxxit.evm.codec import encode_call
from trading.perps import margin
from trading.perps.margin import Margin
from trading.venues.gmx import books, calls
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.calls import OrderState, PositionState
from trading.venues.gmx.orders import PerpTrade
from trading.venues.gmx.units import usd
from trading.venues.safe.units import USDC_DECIMALS, whole

State = tuple[int, list[OrderState], list[PositionState]]
"""USDC in base units, orders and positions."""


def balances_of(at: GmxAccess, safes: Sequence[str], block: int) -> dict[str, dict[str, Decimal]]:
    """Return Safe -> USDC (cash) and listed markets' symbols -> whole units at the end of `block`; keep the margins."""
    found = {}
    for safe, (usdc, waiting, positions) in states(at, safes, block).items():
        found[safe] = {USDC: books.cash_of(usdc, waiting, positions)}
        for symbol, market in at.gmx.markets.items():
            own = [one for one in positions if one.market == market.market]
            found[safe][symbol] = books.tokens_of(own, market.decimals)
        margins = {one.symbol: one for one in (_margin(at, position) for position in positions)}
        margin.store(at.name, at.account_of(safe), list(margins.values()))
    return found


def states(at: GmxAccess, safes: Sequence[str], block: int) -> dict[str, State]:
    """Return Safe -> its USDC, and its orders and positions with USDC as collateral in listed markets."""
    store, reader = at.gmx.data_store, at.gmx.reader
    asked = [
        call
        for safe in safes
        for call in (
            (at.places.usdc, encode_call("balanceOf(address)", safe)),
            (reader, calls.account_orders(store, safe)),
            (reader, calls.account_positions(store, safe)),
        )
    ]
    answers = iter(at.chain.many(asked, block=hex(block), agreed=True))
    listed = {market.market for market in at.gmx.markets.values()}
    found: dict[str, State] = {}
    for safe in safes:
        usdc, waiting, positions = next(answers), next(answers), next(answers)
        found[safe] = (
            int.from_bytes(usdc, "big"),
            [one for one in calls.decode_orders(waiting) if one.collateral_token == at.places.usdc],
            [
                one
                for one in calls.decode_positions(positions)
                if one.collateral_token == at.places.usdc and one.market in listed
            ],
        )
    return found


def position_of(at: GmxAccess, trade: PerpTrade) -> PositionState | None:
    """Return the trade's position at the newest block; None where GMX shows none."""
    answer = at.chain.call(at.gmx.reader, calls.account_positions(at.gmx.data_store, trade.safe))
    own = (
        one
        for one in calls.decode_positions(answer)
        if (one.market, one.is_long, one.collateral_token) == (trade.market, trade.is_long, at.places.usdc)
    )
    return next(own, None)


def _margin(at: GmxAccess, one: PositionState) -> Margin:
    """Return a position's margin. Its liquidation price leaves out fees that have not been charged yet."""
    symbol = at.symbol_of(one.market)
    size, collateral = usd(one.size_usd), whole(one.collateral, USDC_DECIMALS)
    tokens = whole(one.size_tokens, at.gmx.markets[symbol].decimals)
    loss = collateral - size * at.maintenance
    price = (size - loss if one.is_long else size + loss) / tokens if tokens else ZERO
    leverage = (size / collateral).quantize(Decimal("0.01")) if collateral else ZERO
    return Margin(
        symbol,
        min(leverage, Decimal("9999.99")),
        True,
        collateral,
        price.quantize(Decimal("0.01")),
        at.maintenance,
    )
