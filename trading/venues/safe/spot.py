"""Spot trading from a Safe, as a kind of `trading.venues.safe.kinds`: swaps on Uniswap V3 through TradingModule."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from agents.models import PERPS_ACCOUNT, Deployment
from maxxit.core.errors import Rejected
from maxxit.evm.codec import ZERO_ADDRESS, decode
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.reasons import Reason
from trading.venues.safe import limits, pools, verify
from trading.venues.safe.card import PermissionCard, permission_card
from trading.venues.safe.contract import module as m
from trading.venues.safe.kinds import Allowed, SafeKind, Use
from trading.venues.safe.limits import Choice, Unit

Measured = dict[tuple[int, str, int, int, int], pools.Depth | None]
"""(chain, token, fee tier, min trade, max trade) -> depth, None without a quote."""


class Spot:
    """Spot trading. `at` is the access to the Safes of a chain (`SafeAccess`)."""

    name = "spot"
    choice: Choice = limits.SPOT_CHOICE
    policy_type: type[Any] = m.Policy
    headroom_type: type[Any] = m.Headroom
    smallest_field, largest_field, size_words = "min_trade", "max_trade", "an order"

    def terms(self) -> chains.Terms:
        return chains.terms()

    def scaled(self, capital: Decimal | None, preset: str) -> chains.Terms:
        return limits.limits_of(chains.terms(), capital, preset)

    def consent(self, deployment: int, safe: str, chain_id: int) -> str:
        return f"Maxxit deployment {deployment} may plan for the Safe {safe} on chain {chain_id}."

    def require_free(self, at: Any, deployment: Deployment, safe: str) -> None:
        others = Deployment.objects.filter(account=safe).exclude(pk=deployment.pk)
        if any(other.owner_id != deployment.owner_id for other in others):
            raise Rejected(
                f"{safe} is used by another customer's deployment; a Safe can trade for one customer only",
                code="safe_taken",
            )
        if perps := Deployment.objects.filter(account=f"{PERPS_ACCOUNT}{safe}").first():
            raise Rejected(
                f"deployment {perps.pk} trades perpetual futures from {safe}: use another Safe for spot trading",
                code="safe_taken",
            )
        if duplicate := others.filter(agent=deployment.agent_id).first():
            raise Rejected(
                f"deployment {duplicate.pk} already uses {safe} with this agent: use that deployment",
                code="safe_taken",
            )

    def rules(self, at: Any, deployment: Deployment, wanted: Any) -> list[Any]:
        """Return rules for the agent's tokens that the chain has, each with the best pool for the largest trade."""
        symbols = deployment.agent.tokens or list(at.places.tokens)
        tokens = [at.places.tokens[symbol] for symbol in symbols if symbol in at.places.tokens]
        if not tokens:
            raise Rejected(
                f"none of {', '.join(symbols)} is traded on this chain", code=Reason.TOKEN_NOT_LISTED
            )
        return [
            m.TokenRule(token.address, token.feed, _best_pool(at, token.address, wanted).fee, token.max_age)
            for token in tokens
        ]

    def rules_for_card(self, at: Any, deployment: Deployment) -> list[Any]:
        symbols = deployment.agent.tokens or list(at.places.tokens)
        tokens = [at.places.tokens[symbol] for symbol in symbols if symbol in at.places.tokens]
        return [m.TokenRule(token.address, token.feed, 0, token.max_age) for token in tokens]

    def set_policy(self, policy: Any, rules: Sequence[Any]) -> bytes:
        return m.set_policy_data(policy, rules)

    def card(self, places: chains.Contracts | None, policy: Any, rules: Sequence[Any]) -> PermissionCard:
        return permission_card(policy, rules, places.tokens if places else {})

    def policy_of(self, plan: SafePlan) -> m.Policy:
        return verify.policy_of(plan)

    def rules_of(self, plan: SafePlan) -> list[m.TokenRule]:
        return verify.rules_of(plan)

    def symbols_of(self, places: chains.Contracts | None, plan: SafePlan) -> dict[str, str]:
        known = {token.address: symbol for symbol, token in (places.tokens if places else {}).items()}
        return {rule.token: known.get(rule.token, rule.token) for rule in verify.rules_of(plan)}

    def reads(self, safe: str, module: str, plan: SafePlan | None) -> list[tuple[str, bytes]]:
        return verify.verify_calls(safe, module, verify.rules_of(plan) if plan else [])

    def allowed(self, plan: SafePlan | None, answers: Sequence[bytes]) -> Allowed:
        policy, pending = m.decode_policy(answers[1]), m.decode_pending(answers[4])
        return Allowed(
            enabled=bool(decode(["bool"], answers[0])[0]),
            policy=None if policy.executor == ZERO_ADDRESS else policy,
            headroom=m.decode_headroom(answers[3]),
            pending_at=pending.effective_at if pending else 0,
            waits=bool(pending and plan and verify.is_planned(pending, plan)),
            differences=tuple(verify.differences(verify.policy_of(plan), verify.rules_of(plan), answers))
            if plan
            else (),
        )

    def compare(self, at: Any, plan: SafePlan, proposed: SafePlan | None = None) -> tuple[bool, list[str]]:
        """As `verify.standing`; an empty pool differs as well."""
        now = verify.standing(at.chain, at.places, plan, proposed)
        illiquid = [rule.token for rule in verify.rules_of(plan) if rule.token not in now.liquid]
        return now.enabled, [*now.differences, *(f"the pool of {token} is empty" for token in illiquid)]

    def shallow(self, at: Any, plan: SafePlan, measured: dict[Any, Any]) -> dict[str, int | None]:
        """Measure the plan's pools; most Safes share pools and limits, so `measured` holds them."""
        known: Measured = measured
        policy, shallow = verify.policy_of(plan), {}
        for rule in verify.rules_of(plan):
            params = (rule.token, rule.pool_fee, policy.min_trade, policy.max_trade)
            key = (at.stanza.chain_id, *params)
            if key not in known:
                known[key] = pools.depth(at.chain, at.places, *params)
            pool = known[key]
            if pool is None or pool.impact_bps > at.stanza.max_price_impact_bps:
                shallow[rule.token] = pool.impact_bps if pool else None
        return shallow

    def begin(self, at: Any, safe: str) -> None:
        """Do nothing: the receipts of our own transactions hold what the books need."""

    def uses(self, policy: Any, headroom: Any) -> list[Use]:
        return [
            Use("daily_notional", "Bought in 24 hours", policy.daily_notional, headroom.notional_left, Unit.USDC),
            Use("trades_per_day", "Trades in 24 hours", policy.trades_per_day, headroom.trades_left, Unit.COUNT),
            Use("loss_budget", "Loss budget of 24 hours", policy.loss_budget, headroom.loss_left, Unit.USDC),
            Use(
                "total_loss_budget", "Loss budget until you sign again", policy.total_loss_budget,
                headroom.total_loss_left, Unit.USDC,
            ),
        ]  # fmt: skip

    def largest(self, policy: Any) -> str:
        return f"Largest order: {self.choice['max_trade'].text(policy.max_trade)}"


SPOT: SafeKind = Spot()


def _best_pool(at: Any, token: str, wanted: chains.Terms) -> pools.Depth:
    """Return the best pool for the plan's largest trade. Raises Rejected where none is deep enough."""
    return pools.best_pool(
        at.chain, at.places, token, at.stanza.fee_tiers, wanted.min_trade, wanted.max_trade,
        at.stanza.max_price_impact_bps,
    )  # fmt: skip
