"""Build the permission card of perpetual futures: what a policy's signature allows in words, and its worst case.

The worst case is a stolen executor key, also together with GMX's keepers. The module reserves collateral and fee of
each open trade in both loss budgets, and a position cannot lose more than its collateral: the budgets are the bound.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from maxxit.core.terms import BPS
from trading.venues.gmx.contract.module import REQUEST_SECONDS, MarketRule, Policy
from trading.venues.safe.card import PermissionCard, in_usdc, loosening, percent, span

WEI = 18


def permission_card(
    policy: Policy, rules: Sequence[MarketRule], symbols: Mapping[str, str], coin: str = "ETH"
) -> PermissionCard:
    """Return the card of a policy. `symbols`: market -> symbol; one that is not among them is shown by its address."""
    days = -(-policy.total_loss_budget // policy.loss_budget)
    over = "" if days < 2 else f", over {days} days at least"
    return PermissionCard(
        can=_can(policy, _markets(rules, symbols)),
        cannot=(
            "send your USDC anywhere but into GMX's vault as collateral, or name another receiver than your Safe for "
            "what comes back",
            "use your ETH or other tokens, give an allowance, or touch positions and orders that you made yourself",
            f"order an entry or a close more than {percent(policy.slippage_bps)} worse than the price feed "
            "(Chainlink), or on a stale feed",
            f"attach more than {_coins(policy.max_execution_fee)} {coin} as GMX's execution fee to an order; the "
            "executor pays it, not your Safe",
            "open a trade whose collateral does not fit into the loss budgets any more",
            "change these limits, its own keys or the receivers: only your Safe can",
            "stop you: your Safe can close, cancel, revoke or disable it at any time, without us",
        ),
        most_lost_per_day=policy.loss_budget,
        most_lost_in_total=policy.total_loss_budget,
        most_lost=(
            f"in any 24 hours: {in_usdc(policy.loss_budget)}, whatever the leverage, the price and the time of GMX's "
            "keepers: collateral and fees of open trades count as lost until they return",
            f"in total, until you sign again: {in_usdc(policy.total_loss_budget)}{over}",
            f"quickly: a liquidation takes the whole collateral of a trade, and at {_times(policy)} a move of about "
            f"{percent(BPS * BPS // policy.max_leverage_bps)} against it is enough",
        ),
        loosening=loosening(policy.loosen_delay),
        not_bounded=(
            "profit that is not closed yet: a position that has gained can lose its gain again, beside the budgets",
            "what you add to a position yourself, or open in the same market while an order waits",
            "a fault or an upgrade of GMX, which holds the collateral of open trades",
            "how long collateral stays in positions; funding and borrowing fees are taken from it, inside the budgets",
            "the fee of an order that GMX cancels: it is not given back",
            "a USDC that is not worth a dollar",
            f"the profit share: {percent(policy.profit_share_bps)} of realised profit, after earlier losses",
            "a fault in the contract: it is UNAUDITED",
        ),
        summary=(
            (
                "A trade",
                f"collateral of at most {in_usdc(policy.max_collateral)}, leverage of at most {_times(policy)}, size "
                f"of at most {in_usdc(policy.max_notional)}",
            ),
            (
                "24 hours",
                f"collateral of at most {in_usdc(policy.daily_collateral)}, sizes of at most "
                f"{in_usdc(policy.daily_notional)}, {policy.trades_per_day} trades",
            ),
            (
                "Losses",
                f"at most {in_usdc(policy.loss_budget)} a day, {in_usdc(policy.total_loss_budget, unit=False)} in "
                "all, collateral of open trades included; then it opens no position",
            ),
        ),
    )


def _can(policy: Policy, markets: str) -> tuple[str, ...]:
    return (
        f"open and close leveraged positions at GMX in {markets}, with your USDC as collateral",
        f"put {in_usdc(policy.min_collateral)} to {in_usdc(policy.max_collateral)} of collateral into a trade, with "
        f"at most {_times(policy)} leverage and a size of at most {in_usdc(policy.max_notional)}",
        f"in any 24 hours open at most {policy.trades_per_day} trades with {in_usdc(policy.daily_collateral)} of "
        f"collateral and {in_usdc(policy.daily_notional)} of size together, {span(policy.cooldown)} apart",
        "leave a stop and a target of each trade at GMX, which executes them at any price",
        f"cancel its own orders; anyone may, once GMX's keepers have not executed them for {REQUEST_SECONDS} s",
        f"pay {in_usdc(policy.trade_fee)} a trade to {policy.fee_receiver}",
        f"pay {percent(policy.profit_share_bps)} of profit, after earlier losses, to {policy.profit_receiver}",
    )


def _markets(rules: Sequence[MarketRule], symbols: Mapping[str, str]) -> str:
    """Return the markets with their sides: ETH and BTC, long and short."""
    names: dict[str, list[str]] = {}
    for rule in rules:
        sides = [
            name for name, allowed in (("long", rule.allow_long), ("short", rule.allow_short)) if allowed
        ]
        names.setdefault(" and ".join(sides), []).append(symbols.get(rule.market, rule.market))
    return "; ".join(f"{', '.join(markets)} ({sides})" for sides, markets in names.items())


def _times(policy: Policy) -> str:
    return f"{(Decimal(policy.max_leverage_bps) / BPS).normalize():f}x"


def _coins(wei: int) -> str:
    return f"{Decimal(wei).scaleb(-WEI).normalize():f}"
