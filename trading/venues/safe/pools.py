"""How deep the pools of a token are: what the largest trade of a policy would get, in both directions."""

from dataclasses import dataclass

from maxxit.core.errors import Rejected
from maxxit.core.terms import BPS
from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Chain, Fault
from trading.chain.chains import Contracts

_QUOTE = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
_FEE_UNITS = 1_000_000
"""Uniswap's fee tiers are millionths."""


@dataclass(frozen=True, slots=True)
class Depth:
    """One pool at one trade size."""

    fee: int
    """The tier, in millionths."""
    returned: int
    """USDC base units that come back when the trade is bought and sold again at today's quotes."""
    impact_bps: int
    """How much worse the large trade's price is than a small one's, in the worse direction; the pool's fee is in
    neither."""


def quote(chain: Chain, places: Contracts, sell: str, buy: str, amount: int, fee: int) -> int:
    """What QuoterV2 says would arrive, in base units. Raises Fault where the pool cannot do it, Retryable."""
    answer = chain.call(places.quoter, encode_call(_QUOTE, (sell, buy, amount, fee, 0)))
    arrives: int = decode(["uint256", "uint160", "uint32", "uint256"], answer)[0]
    return arrives


def depth(chain: Chain, places: Contracts, token: str, fee: int, small: int, large: int) -> Depth | None:
    """The tier's pool for a trade of `large` against one of `small` USDC base units; None where it cannot do it."""
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
    """The deep enough pool with the best quote there and back. Raises Rejected where no tier has one."""
    found = [one for tier in tiers if (one := depth(chain, places, token, tier, small, large))]
    if not found:
        raise Rejected(f"no pool of {token} against USDC in the tiers {tiers}", code="pool_missing")
    enough = [one for one in found if one.impact_bps <= max_impact]
    if not enough:
        best = min(found, key=lambda one: one.impact_bps)
        raise Rejected(
            f"no pool of {token} is deep enough: a trade of {large / 10**6:,.2f} USDC moves the price of the best one "
            f"(fee {best.fee / _FEE_UNITS:.2%}) by {best.impact_bps} bps, {max_impact} are allowed. Plan a smaller "
            "max_trade, or without this token",
            code="pool_too_shallow",
        )
    return max(enough, key=lambda one: one.returned)
