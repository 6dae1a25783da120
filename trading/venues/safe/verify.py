"""Whether a Safe stands as its owners signed it, asked of the chain and never of our database."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from django.db.models import QuerySet

from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from maxxit.evm.rpc import Chain
from trading.chain.chains import Contracts
from trading.chain.models import SafePlan
from trading.venues.safe import onboarding
from trading.venues.safe.contract import module as m


@dataclass(frozen=True, slots=True)
class Permission:
    """What a Safe allows its executor at one moment; all that an exit depends on."""

    enabled: bool
    policy: m.Policy
    headroom: m.Headroom


@dataclass(frozen=True, slots=True)
class Standing(Permission):
    """A Safe held against a plan. Amounts in base units."""

    usdc: int
    differences: tuple[str, ...]
    """From the plan; none = verified."""
    liquid: frozenset[str]
    """Tokens whose pool of the policy's fee tier exists and holds liquidity."""


def _plans(chain_id: int, safe: str) -> QuerySet[SafePlan]:
    return SafePlan.objects.filter(chain_id=chain_id, safe=safe)


def plan_in_force(chain_id: int, safe: str) -> SafePlan | None:
    """The plan that the chain confirmed last; entries are held against it."""
    return _plans(chain_id, safe).exclude(verified_at=None).order_by("-verified_at").first()


def proposal(chain_id: int, safe: str) -> SafePlan | None:
    """The plan that the owners were asked to sign and the chain has not confirmed yet."""
    return _plans(chain_id, safe).filter(verified_at=None).first()


def policy_of(plan: SafePlan) -> m.Policy:
    """The plan's policy."""
    return m.Policy(**plan.policy)


def rules_of(plan: SafePlan) -> list[m.TokenRule]:
    """The plan's tokens."""
    return [m.TokenRule(**rule) for rule in plan.rules]


def as_plan(policy: m.Policy, rules: Sequence[m.TokenRule]) -> dict[str, object]:
    """The columns of a plan."""
    return {"policy": asdict(policy), "rules": [asdict(rule) for rule in rules]}


def permission(chain: Chain, module: str, safe: str) -> Permission:
    """What the Safe allows now, in one Multicall3 read; no plan is needed. Raises Fault where the address is no Safe,
    Retryable."""
    return Permission(*_permission(chain.many(onboarding.verify_calls(safe, module, []))))


def _permission(verified: Sequence[bytes]) -> tuple[bool, m.Policy, m.Headroom]:
    return (
        bool(decode(["bool"], verified[0])[0]),
        m.decode_policy(verified[1]),
        m.decode_headroom(verified[3]),
    )


def standing(chain: Chain, places: Contracts, plan: SafePlan) -> Standing:
    """One Multicall3 read and one for the pools. Raises Fault where the address is no Safe, Retryable."""
    policy, rules = policy_of(plan), rules_of(plan)
    calls = onboarding.verify_calls(plan.safe, plan.module, rules)
    lookup = "getPool(address,address,uint24)"
    pools = [(places.factory, encode_call(lookup, places.usdc, rule.token, rule.pool_fee)) for rule in rules]
    balance = (places.usdc, encode_call("balanceOf(address)", plan.safe))
    answers = chain.many([*calls, *pools, balance])
    verified, found = answers[: len(calls)], answers[len(calls) : -1]
    where = [decode(["address"], pool)[0] for pool in found]
    return Standing(
        *_permission(verified),
        usdc=int.from_bytes(answers[-1], "big"),
        differences=tuple(onboarding.differences(policy, rules, verified)),
        liquid=_liquid(chain, {rule.token: pool for rule, pool in zip(rules, where, strict=True)}),
    )


def _liquid(chain: Chain, pools: dict[str, str]) -> frozenset[str]:
    there = {token: pool for token, pool in pools.items() if pool != ZERO_ADDRESS}
    depth = chain.many([(pool, encode_call("liquidity()")) for pool in there.values()])
    return frozenset(token for token, found in zip(there, depth, strict=True) if int.from_bytes(found, "big"))


def closing_problem(now: Permission, executors: Collection[str]) -> str:
    """Why none of our `executors` could close a position: a code, or empty."""
    if not now.enabled:
        return "module_disabled"
    if now.policy.executor not in executors:
        return "executor_not_allowed"  # another policy, or revoked
    return "stopped" if now.headroom.stop_level >= m.HALTED else ""


def opening_problem(now: Standing, executors: Collection[str], token: str, spend: int) -> str:
    """Why the module would not open with `spend` USDC: a code, or empty."""
    if problem := closing_problem(now, executors):
        return problem
    left, policy = now.headroom, now.policy
    checks = (
        ("stopped", left.stop_level >= m.NO_ENTRIES),
        ("policy_differs", bool(now.differences)),
        ("pool_missing", token not in now.liquid),
        ("below_min_trade", spend < policy.min_trade),
        ("above_max_trade", spend > policy.max_trade),
        ("insufficient_balance", spend + policy.trade_fee > now.usdc),
        ("daily_notional", spend > left.notional_left),
        ("trades_per_day", left.trades_left == 0),
        ("loss_budget", min(left.loss_left, left.total_loss_left) < policy.trade_fee),
    )
    return next((code for code, wrong in checks if wrong), "")
