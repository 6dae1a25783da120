"""Measure the liquidity of Uniswap V3 pools: the price impact of a policy's largest trade, in both directions."""

from dataclasses import dataclass

from maxxit.core.errors import Rejected
from maxxit.core.terms import BPS
from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Chain, Fault
from trading.chain.chains import Contracts
from trading.reasons import Reason

_QUOTE = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
_FEE_UNITS = 1_000_000
"""Uniswap's fee tiers are in millionths."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The liquidity of one pool for one trade size."""

    fee: int
    """The fee tier, in millionths."""
    returned: int
    """USDC base units returned when the trade is bought and sold again at the present quotes."""
    impact_bps: int
    """Price impact: how much worse the large trade's price is than a small one's, in the worse direction, without the
    pool's fee."""


def quote(chain: Chain, places: Contracts, sell: str, buy: str, amount: int, fee: int) -> int:
    """Return QuoterV2's output amount in base units. Raises Fault where the pool cannot fill it, Retryable."""
    answer = chain.call(places.quoter, encode_call(_QUOTE, (sell, buy, amount, fee, 0)))
    received: int = decode(["uint256", "uint160", "uint32", "uint256"], answer)[0]
    return received


def depth(chain: Chain, places: Contracts, token: str, fee: int, small: int, large: int) -> Depth | None:
    """Measure a pool for a trade of `large` against one of `small` USDC base units; None where it cannot fill it.

    Impact = 1 - (price of the large trade / price of the small one), per direction, in basis points.
    """
    try:
        bought_small = quote(chain, places, places.usdc, token, small, fee)
        bought = quote(chain, places, places.usdc, token, large, fee)
        back_small = quote(chain, places, token, places.usdc, bought_small, fee) if bought_small else 0
        back = quote(chain, places, token, places.usdc, bought, fee) if bought else 0
    except Fault:
        return None
    if not back_small or not back:
        return None
    buying = BPS - BPS * bought * small // (bought_small * large)
    selling = BPS - BPS * back * bought_small // (back_small * bought)
    return Depth(fee, back, max(buying, selling, 0))


def best_pool(
    chain: Chain,
    places: Contracts,
    token: str,
    tiers: tuple[int, ...],
    small: int,
    large: int,
    max_impact: int,
) -> Depth:
    """Return the pool with the best round-trip quote among those within `max_impact` (basis points).

    Raises Rejected where no fee tier has one.
    """
    measured = [pool for tier in tiers if (pool := depth(chain, places, token, tier, small, large))]
    if not measured:
        raise Rejected(
            f"no pool of {token} against USDC in the fee tiers {', '.join(map(str, tiers))}",
            code=Reason.POOL_MISSING,
        )
    deep = [pool for pool in measured if pool.impact_bps <= max_impact]
    if not deep:
        best = min(measured, key=lambda pool: pool.impact_bps)
        raise Rejected(
            f"no pool of {token} is deep enough: a trade of {large / 10**6:,.2f} USDC moves the price of the best one "
            f"(fee {best.fee / _FEE_UNITS:.2%}) by {best.impact_bps} bps, {max_impact} are allowed. Plan a smaller "
            "max_trade, or without this token",
            code=Reason.POOL_TOO_SHALLOW,
        )
    return max(deep, key=lambda pool: pool.returned)
