"""The one place that signs for an account, and the policy that bounds what it signs, whatever an order row says.

The policy stands in config/venues.yaml, which only the machine's operator changes. It bounds what the platform can do
with an agent key, also one whose database was tampered with. A key that was stolen is bounded by Hyperliquid alone: it
cannot withdraw, and it expires.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO
from trading.reasons import Reason
from trading.venues.hyperliquid.client import Keys
from trading.venues.hyperliquid.markets import Market
from trading.venues.hyperliquid.nonces import milliseconds
from trading.venues.hyperliquid.orders import TPSL
from trading.venues.hyperliquid.wire import (
    Builder,
    action_hash,
    is_valid_price,
    request_body,
    round_size,
    sign,
)

ORDER_KEYS = ["a", "b", "p", "s", "r", "t", "c"]
IOC = {"limit": {"tif": "Ioc"}}


@dataclass(frozen=True, slots=True)
class SignerPolicy:
    """What may be signed."""

    markets: Mapping[int, Market]
    """Asset number -> market: deep ones only."""
    price_band: Decimal
    """Fraction: how far an entry's price limit may be from our quote."""
    exit_band: Decimal
    """Fraction: the same of an exit's, where there is a quote."""
    max_leverage: int
    daily_notional_usd: Decimal
    """Of an account's entries within 24 hours."""
    builder: Builder | None
    """The only receiver of a builder fee."""


@dataclass(frozen=True, slots=True)
class SigningFacts:
    """What the policy is held against, read by the process that signs."""

    prices: Mapping[str, Decimal]
    """Coin -> fresh quote, USD."""
    notional_today_usd: Decimal = ZERO
    """Of the account's entries within 24 hours, this one included."""


def check(action: Mapping[str, Any], policy: SignerPolicy, facts: SigningFacts) -> None:
    """Raise Rejected with a `signer_…` code where the policy does not allow an action. Pure function."""
    kind = action.get("type")
    if kind == "order":
        _check_order(action, policy, facts)
    elif kind == "updateLeverage":
        _market(action.get("asset"), policy)
        leverage = action.get("leverage")
        if (
            action.get("isCross") is not False
            or not isinstance(leverage, int)
            or leverage > policy.max_leverage
        ):
            raise Rejected(
                f"the signer allows isolated margin and a leverage of {policy.max_leverage} at most, not {leverage}",
                code=Reason.SIGNER_LEVERAGE,
            )
    elif kind == "cancelByCloid":
        for cancel in action["cancels"]:
            _market(cancel.get("asset"), policy)
    else:
        raise Rejected(f"the signer signs no action of type {kind}", code=Reason.SIGNER_ACTION)


def _check_order(action: Mapping[str, Any], policy: SignerPolicy, facts: SigningFacts) -> None:
    expected = None if policy.builder is None else policy.builder.wire()
    orders = action.get("orders")
    if action.get("builder") != expected or not isinstance(orders, list):
        raise Rejected("the order's builder is not the configured one", code=Reason.SIGNER_ACTION)
    if not orders or any(list(one) != ORDER_KEYS for one in orders) or orders[0]["t"] != IOC:
        raise Rejected("the signer signs one immediate-or-cancel order at a time", code=Reason.SIGNER_ACTION)
    order, *legs = orders
    if action.get("grouping") != ("normalTpsl" if legs else "na") or len(legs) > len(TPSL):
        raise Rejected(
            "the orders belong together otherwise than as entry and exits", code=Reason.SIGNER_ACTION
        )
    for leg in legs:
        _check_leg(leg, order, policy)
    market = _market(order["a"], policy)
    price, size = Decimal(order["p"]), Decimal(order["s"])
    if size <= 0:
        raise Rejected(
            f"the quantity is below the smallest size of {market.coin}, {market.sz_decimals} decimals",
            code=Reason.BELOW_MINIMUM,
        )
    if not is_valid_price(price, market.sz_decimals) or size != round_size(size, market.sz_decimals):
        raise Rejected(
            f"{size} at {price} does not fit the steps of {market.coin}", code=Reason.SIGNER_ACTION
        )
    closes = order["r"] is True
    quote, band = facts.prices.get(market.coin), policy.exit_band if closes else policy.price_band
    if quote is None and not closes:
        raise Rejected(f"the signer has no fresh quote of {market.coin}", code=Reason.SIGNER_PRICE_BAND)
    if quote is not None and abs(price - quote) > quote * band:
        raise Rejected(
            f"the price limit {price} is more than {band * 100:.2f} % from our quote {quote}",
            code=Reason.SIGNER_PRICE_BAND,
        )
    if not closes and facts.notional_today_usd > policy.daily_notional_usd:
        raise Rejected(
            f"the account's entries of 24 hours would be {facts.notional_today_usd:.2f} USD; the signer allows "
            f"{policy.daily_notional_usd:.2f}",
            code=Reason.SIGNER_DAILY_NOTIONAL,
        )


def _check_leg(leg: Mapping[str, Any], entry: Mapping[str, Any], policy: SignerPolicy) -> None:
    """Check an exit that the venue keeps: it reduces what the entry opens, at the market, near its trigger."""
    trigger = leg["t"].get("trigger") if isinstance(leg["t"], Mapping) else None
    known = isinstance(trigger, Mapping) and trigger.get("isMarket") is True
    known = known and trigger.get("tpsl") in TPSL.values()  # type: ignore[union-attr]  # it is a mapping
    same = (leg["a"], leg["s"], leg["b"]) == (entry["a"], entry["s"], not entry["b"])
    if not known or not same or leg["r"] is not True or entry["r"] is not False:
        raise Rejected("the signer signs only exits that close their entry", code=Reason.SIGNER_ACTION)
    market, price = _market(leg["a"], policy), Decimal(leg["p"])
    level = Decimal(trigger["triggerPx"])  # type: ignore[index]  # it is a mapping
    if not all(is_valid_price(one, market.sz_decimals) for one in (price, level)):
        raise Rejected(
            f"{price} or {level} does not fit the steps of {market.coin}", code=Reason.SIGNER_ACTION
        )
    if abs(price - level) > level * policy.exit_band:
        raise Rejected(
            f"the exit's limit {price} is more than {policy.exit_band * 100:.2f} % from its trigger {level}",
            code=Reason.SIGNER_PRICE_BAND,
        )


def _market(asset: Any, policy: SignerPolicy) -> Market:
    market = policy.markets.get(asset) if isinstance(asset, int) else None
    if market is None:
        raise Rejected(f"the signer does not trade market {asset}", code=Reason.SIGNER_MARKET)
    return market


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs actions of accounts within a policy."""

    policy: SignerPolicy
    mainnet: bool

    def body(self, keys: Keys, action: str, nonce: int, deadline: datetime, facts: SigningFacts) -> str:
        """Return the signed body of POST /exchange for an action's text; the same each time.

        `deadline`: after it Hyperliquid does not execute the action. Raises Rejected as `check`.
        """
        content = json.loads(action)
        check(content, self.policy, facts)
        expires = milliseconds(deadline)
        signature = sign(keys.agent_key, action_hash(content, nonce, expires), mainnet=self.mainnet)
        return request_body(action, nonce, signature, expires)
