"""The permission card of an agent key: what it allows the platform to do, and which losses have no limit."""

from decimal import Decimal

from maxxit.core.money import plain
from trading.venues.base import KeyCard
from trading.venues.hyperliquid.signer import SignerPolicy

TENTHS_OF_BP_PER_PERCENT = 1_000


def key_card(policy: SignerPolicy) -> KeyCard:
    """Return the card of agent keys that are signed with under `policy`."""
    fee: tuple[str, ...] = ()
    if (builder := policy.builder) is not None:
        percent = Decimal(builder.tenths_of_bp) / TENTHS_OF_BP_PER_PERCENT
        fee = (
            f"let each order pay {plain(percent)} % to {builder.address}, once your main wallet approved it",
        )
    return KeyCard(
        link="At app.hyperliquid.xyz, More, API, approve an agent with your main wallet and give it a short expiry. "
        "Store the main wallet's address and the agent's private key here.",
        can=(
            f"trade perpetual futures in {', '.join(market.coin for market in policy.markets.values())}, long and "
            f"short, with isolated margin and a leverage of at most {policy.max_leverage}",
            f"open positions of at most {policy.daily_notional_usd:,.0f} USD in any 24 hours, each within "
            f"{_percent(policy.price_band)} of Maxxit's quote",
            f"close them within {_percent(policy.exit_band)} of the quote, and have Hyperliquid keep stop and target",
            *fee,
        ),
        cannot=(
            "withdraw or transfer: Hyperliquid wants a signature of your main wallet for that, which Maxxit never has",
            "trade after the agent expires, or once you remove it at Hyperliquid",
        ),
        bounded_by="The limits under “can” are enforced by Maxxit's signer, not by Hyperliquid.",
        not_bounded=(
            "a stolen agent key: its holder can trade in any market, at the highest leverage and against "
            "themselves, until the agent expires or you remove it. The whole account can be lost",
            "a falling market: within the limits a position can lose all of its margin",
        ),
        advice="Keep only trading money in the account, choose a short expiry, and remove the agent on any doubt.",
    )


def _percent(fraction: Decimal) -> str:
    return f"{plain(fraction * 100)} %"
