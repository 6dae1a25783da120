"""Build the permission card: what a policy's signature allows, in plain words, and its worst-case loss.

The worst case is a stolen executor key. Losses are measured at market prices, but the module measures at price feeds,
and a feed may deviate from the market by its threshold before it is updated. So each USDC bought or sold may lose that
deviation besides the loss budget, which covers slippage, pool fees and trade fees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from maxxit.core.terms import BPS
from trading.chain.chains import TokenStanza
from trading.venues.safe.contract.module import USDC_UNIT, Policy, TokenRule


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The maximum loss through a stolen executor key, while every feed is within its deviation of the market.

    USDC base units.
    """

    per_day: int
    """In any 24 hours: the loss budget plus the deviation on all that can be bought and sold again."""
    in_total: int | None
    """Until the owners sign again; None: all that the Safe holds."""
    days: int
    """Minimum number of days in which the total can be lost."""


def worst_case(policy: Policy, deviation_bps: int) -> WorstCase:
    """Return the worst case of a policy whose feeds deviate from the market by at most `deviation_bps`.

    Not in `per_day`: older positions lose the deviation once more when they are sold. Each open takes its fee from the
    total loss budget, which limits the number of opens; without a fee nothing does.
    """

    def turned_over(notional: int) -> int:
        return -(-2 * notional * deviation_bps // BPS)

    per_day = policy.loss_budget + turned_over(policy.daily_notional)
    if not policy.trade_fee:
        return WorstCase(per_day, None if deviation_bps else policy.total_loss_budget, 0)
    opens = policy.total_loss_budget // policy.trade_fee
    notional = opens * policy.max_trade
    days = max(-(-opens // policy.trades_per_day), -(-notional // policy.daily_notional))
    return WorstCase(per_day, policy.total_loss_budget + turned_over(notional), days)


@dataclass(frozen=True, slots=True)
class PermissionCard:
    """What a signature allows, in plain words; amounts in USDC base units."""

    can: tuple[str, ...]
    cannot: tuple[str, ...]
    most_lost_per_day: int
    most_lost_in_total: int | None
    """None: all that the Safe holds."""
    most_lost: tuple[str, ...]
    """Both in words, with their components."""
    loosening: str
    """The delay before a policy that loosens anything takes effect, in words."""
    not_bounded: tuple[str, ...]
    summary: tuple[tuple[str, str], ...] = ()
    """The most important limits: (what, limit in words)."""

    def as_text(self) -> str:
        """Return the card as lines for a terminal or an e-mail."""
        parts = [
            "The module CAN", *(f"  + {line}" for line in self.can),
            "The module CANNOT", *(f"  - {line}" for line in self.cannot),
            "Most that a stolen executor key can lose, slippage and fees included",
            *(f"  = {line}" for line in self.most_lost),
            "Delay before a later policy that loosens anything is in force",
            f"  = {self.loosening}",
            "Not bounded by this", *(f"  ! {line}" for line in self.not_bounded),
        ]  # fmt: skip
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def permission_card(
    policy: Policy, rules: Sequence[TokenRule], tokens: Mapping[str, TokenStanza]
) -> PermissionCard:
    """Return the card of a policy on a chain with these `tokens` (symbol -> stanza).

    A token that is not among them is shown by its address, and its feed's deviation is listed as unknown.
    """
    symbols = {token.address: symbol for symbol, token in tokens.items()}
    names = {rule.token: symbols.get(rule.token, rule.token) for rule in rules}
    deviations = {token.address: token.deviation_bps for token in tokens.values()}
    deviation = max((deviations.get(rule.token, 0) for rule in rules), default=0)
    worst = worst_case(policy, deviation)
    return PermissionCard(
        can=_can(policy, ", ".join(names.values())),
        cannot=(
            "send your tokens or USDC anywhere else, or sell tokens that it did not buy",
            f"trade more than {percent(policy.slippage_bps)} worse than the price feed, or on a stale feed",
            "change these limits, its own keys or the receivers: only your Safe can",
            "stop you: your Safe can close, revoke or disable it at any time, without us",
        ),
        most_lost_per_day=worst.per_day,
        most_lost_in_total=worst.in_total,
        most_lost=_most_lost(policy, worst, deviation),
        loosening=loosening(policy.loosen_delay),
        not_bounded=_not_bounded(policy, rules, names, deviations),
        summary=(
            ("An order", f"at most {in_usdc(policy.max_trade)}"),
            (
                "24 hours",
                f"orders of at most {in_usdc(policy.daily_notional)}, {policy.trades_per_day} trades",
            ),
            (
                "Losses",
                f"at most {in_usdc(policy.loss_budget)} a day, {in_usdc(policy.total_loss_budget, unit=False)} in "
                "all, at the prices of the feeds; then it opens no position",
            ),
        ),
    )


def _can(policy: Policy, tokens: str) -> tuple[str, ...]:
    return (
        f"buy {tokens} with your USDC on Uniswap V3, and sell what it bought",
        f"spend {in_usdc(policy.min_trade)} to {in_usdc(policy.max_trade)} a trade, at most "
        f"{in_usdc(policy.daily_notional)} and {policy.trades_per_day} trades in any 24 hours, "
        f"{span(policy.cooldown)} apart",
        f"pay {in_usdc(policy.trade_fee)} a trade to {policy.fee_receiver}",
        f"pay {percent(policy.profit_share_bps)} of profit, after earlier losses, to {policy.profit_receiver}",
    )


def _most_lost(policy: Policy, worst: WorstCase, deviation: int) -> tuple[str, ...]:
    apart = f"feeds up to {percent(deviation)} away from the market"
    day = (
        f"in any 24 hours: {in_usdc(worst.per_day)}: {in_usdc(policy.loss_budget)} at the price feeds, "
        f"{in_usdc(worst.per_day - policy.loss_budget)} by {apart}; and {percent(deviation)} of older positions it "
        "sells"
    )
    if worst.in_total is None:
        return (
            day,
            f"in total, until you sign again: all that the Safe holds; {in_usdc(policy.total_loss_budget)} at the "
            f"price feeds, the rest by {apart}",
        )
    return (
        day,
        f"in total, until you sign again: {in_usdc(worst.in_total)}, never more than the Safe holds: "
        f"{in_usdc(policy.total_loss_budget)} at the price feeds, the rest by {apart}, over {worst.days} days at least",
    )


def _not_bounded(
    policy: Policy, rules: Sequence[TokenRule], names: Mapping[str, str], deviations: Mapping[str, int]
) -> tuple[str, ...]:
    oldest = max((rule.max_age for rule in rules), default=0)
    unknown = [names[rule.token] for rule in rules if rule.token not in deviations]
    return (
        "a falling market: what it holds can lose value (realised losses stop new trades at the same limit)",
        f"a price feed that stands still: it is traded on until it is {span(oldest)} old, and the market may move any "
        "distance meanwhile",
        "a price feed that is wrong, a USDC that is not worth a dollar, a worthless token",
        f"the profit share: {percent(policy.profit_share_bps)} of profit that has arrived, never of what you paid in",
        *([f"how far the feeds of {', '.join(unknown)} deviate: not known here"] if unknown else ()),
        "a fault in the contract: it is UNAUDITED",
    )


def in_usdc(amount: int, *, unit: bool = True) -> str:
    """Return an amount of USDC base units in words."""
    return f"{Decimal(amount) / USDC_UNIT:,.2f}{' USDC' if unit else ''}"


def percent(bps: int) -> str:
    """Return basis points in percent."""
    return f"{(Decimal(bps) / 100).normalize():f} %"


def span(seconds: int) -> str:
    """Return a span of time in words."""
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "min")):
        if seconds >= 2 * unit and seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def loosening(delay: int) -> str:
    """Return when a later policy that loosens anything takes effect, in words."""
    if delay == 0:
        return (
            "NO delay: whatever your Safe signs later is in force at once, looser limits and other keys too"
        )
    return (
        f"{span(delay)}: until then your Safe or the guardian can cancel it; what is stricter holds at once"
    )
