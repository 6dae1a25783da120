"""Perpetual futures from a Safe, as a kind of `trading.venues.safe.kinds`: positions at GMX v2 through PerpModule.

One Safe trades spot or perpetual futures, because both books count the same USDC, and for one deployment at a time.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Q

from agents.models import PERPS_ACCOUNT, Deployment
from agents.states import DeploymentState
from maxxit.core.errors import Rejected
from maxxit.core.terms import BPS
from maxxit.evm.codec import ZERO_ADDRESS
from trading import ledger
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.models import LedgerBalance
from trading.reasons import Reason
from trading.venues.gmx import accounts, limits, scan, verify
from trading.venues.gmx.card import permission_card
from trading.venues.gmx.contract import module as p
from trading.venues.safe.card import PermissionCard, in_usdc
from trading.venues.safe.kinds import Allowed, SafeKind, Use
from trading.venues.safe.limits import Choice, Unit


class Perps:
    """Perpetual futures. `at` is the venue (`GmxVenue`)."""

    name = "perps"
    choice: Choice = limits.CHOICE
    policy_type: type[Any] = p.Policy
    headroom_type: type[Any] = p.Headroom
    smallest_field, largest_field, size_words = "min_collateral", "max_collateral", "of collateral a trade"

    def terms(self) -> chains.PerpsTerms:
        return chains.perps_terms()

    def scaled(self, capital: Decimal | None, preset: str) -> chains.PerpsTerms:
        return limits.limits_of(chains.perps_terms(), capital, preset)

    def consent(self, deployment: int, safe: str, chain_id: int) -> str:
        return f"Maxxit deployment {deployment} may plan perpetual futures for the Safe {safe} on chain {chain_id}."

    def require_free(self, at: Any, deployment: Deployment, safe: str) -> None:
        """Raise Rejected where the Safe serves another deployment, or holds positions at GMX that are not its own."""
        both = (safe, f"{PERPS_ACCOUNT}{safe}")
        ended = Q(
            state=DeploymentState.REVOKED,
            account=f"{PERPS_ACCOUNT}{safe}",
            owner_id=deployment.owner_id,
        )
        others = Deployment.objects.filter(account__in=both).exclude(pk=deployment.pk)
        blocking = others.exclude(ended) | others.filter(agent=deployment.agent_id)
        if other := blocking.first():
            raise Rejected(
                f"deployment {other.pk} trades from {safe} already: use another Safe for perpetual futures",
                code="safe_taken",
            )
        booked = LedgerBalance.objects.filter(account=ledger.account_of(deployment.pk))
        trades_here = deployment.safe_wallet == safe and booked.exists()
        if not trades_here and accounts.states(at, [safe], at.final_block())[safe][2]:
            raise Rejected(
                f"{safe} holds positions at GMX that are not ours: close them first", code="position_exists"
            )

    def rules(self, at: Any, deployment: Deployment, wanted: Any) -> list[Any]:
        """Return rules for the agent's tokens that GMX trades on the chain and that have a feed."""
        rules = self.rules_for_card(at, deployment)
        if not rules:
            symbols = ", ".join(deployment.agent.tokens or at.gmx.markets)
            raise Rejected(f"none of {symbols} is traded at GMX on this chain", code=Reason.TOKEN_NOT_LISTED)
        return rules

    def rules_for_card(self, at: Any, deployment: Deployment) -> list[Any]:
        markets, tokens = at.gmx.markets, at.places.tokens
        symbols = [one for one in deployment.agent.tokens or markets if one in markets and one in tokens]
        return [
            p.MarketRule(
                markets[one].market, markets[one].decimals, tokens[one].feed, tokens[one].max_age,
                allow_short=at.capabilities.shorts,
            )
            for one in symbols
        ]  # fmt: skip

    def set_policy(self, policy: Any, rules: Sequence[Any]) -> bytes:
        return p.set_policy_data(policy, rules)

    def card(self, places: chains.Contracts | None, policy: Any, rules: Sequence[Any]) -> PermissionCard:
        return permission_card(policy, rules, _symbols(places))

    def policy_of(self, plan: SafePlan) -> p.Policy:
        return verify.policy_of(plan)

    def rules_of(self, plan: SafePlan) -> list[p.MarketRule]:
        return list(verify.rules_of(plan))

    def symbols_of(self, places: chains.Contracts | None, plan: SafePlan) -> dict[str, str]:
        known = _symbols(places)
        return {rule.market: known.get(rule.market, rule.market) for rule in verify.rules_of(plan)}

    def reads(self, safe: str, module: str, plan: SafePlan | None) -> list[tuple[str, bytes]]:
        return verify.reads(safe, module)

    def allowed(self, plan: SafePlan | None, answers: Sequence[bytes]) -> Allowed:
        now = verify.decoded(answers)
        return Allowed(
            enabled=now.enabled,
            policy=None if now.policy.executor == ZERO_ADDRESS else now.policy,
            headroom=now.headroom,
            pending_at=now.pending.effective_at if now.pending else 0,
            waits=bool(now.pending and plan and verify.is_planned(now.pending, plan)),
            differences=tuple(verify.differences(plan, now)) if plan else (),
        )

    def compare(self, at: Any, plan: SafePlan, proposed: SafePlan | None = None) -> tuple[bool, list[str]]:
        now = verify.decoded(at.chain.many(verify.reads(plan.safe, plan.module)))
        return now.enabled, verify.differences(plan, now, proposed)

    def shallow(self, at: Any, plan: SafePlan, measured: dict[Any, Any]) -> dict[str, int | None]:
        """Return nothing: GMX refuses by itself what its pools cannot bear."""
        return {}

    def begin(self, at: Any, safe: str) -> None:
        """Begin to read GMX's events of the Safe."""
        scan.begin(at, safe)

    def uses(self, policy: Any, headroom: Any) -> list[Use]:
        return [
            Use(
                "daily_collateral", "Collateral opened in 24 hours", policy.daily_collateral, headroom.collateral_left,
                Unit.USDC,
            ),
            Use("daily_notional", "Size opened in 24 hours", policy.daily_notional, headroom.notional_left, Unit.USDC),
            Use("trades_per_day", "Trades in 24 hours", policy.trades_per_day, headroom.trades_left, Unit.COUNT),
            Use(
                "loss_budget", "Loss budget of 24 hours, with open collateral", policy.loss_budget, headroom.loss_left,
                Unit.USDC,
            ),
            Use(
                "total_loss_budget", "Loss budget until you sign again", policy.total_loss_budget,
                headroom.total_loss_left, Unit.USDC,
            ),
        ]  # fmt: skip

    def largest(self, policy: Any) -> str:
        times = f"{(Decimal(policy.max_leverage_bps) / BPS).normalize():f}x"
        return (
            f"Largest trade: {in_usdc(policy.max_collateral)} of collateral, {times} leverage, "
            f"{in_usdc(policy.max_notional)} of size"
        )


PERPS: SafeKind = Perps()


def _symbols(places: chains.Contracts | None) -> dict[str, str]:
    """Return market -> symbol."""
    gmx = places.gmx if places else None
    return {market.market: symbol for symbol, market in gmx.markets.items()} if gmx else {}
