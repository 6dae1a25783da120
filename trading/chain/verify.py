"""Whether a Safe stands as its owners signed it, asked of the chain and never of our database."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from trading.chain import onboarding
from trading.chain.chains import Contracts
from trading.chain.models import SafePlan
from trading.chain.rpc import Chain
from trading.contracts import module as m
from trading.contracts.codec import ZERO_ADDRESS, decode, encode_call


@dataclass(frozen=True, slots=True)
class Standing:
    """A Safe at one moment. Amounts in base units."""

    enabled: bool
    policy: m.Policy
    headroom: m.Headroom
    usdc: int
    differences: tuple[str, ...]
    """From the plan; none = verified."""
    liquid: frozenset[str]
    """Tokens whose pool of the policy's fee tier exists and holds liquidity."""


def plan_of(chain_id: int, safe: str) -> SafePlan | None:
    """What the owners were asked to sign."""
    return SafePlan.objects.filter(chain_id=chain_id, safe=safe).first()


def policy_of(plan: SafePlan) -> m.Policy:
    """The plan's policy."""
    return m.Policy(**plan.policy)


def rules_of(plan: SafePlan) -> list[m.TokenRule]:
    """The plan's tokens."""
    return [m.TokenRule(**rule) for rule in plan.rules]


def as_plan(policy: m.Policy, rules: Sequence[m.TokenRule]) -> dict[str, object]:
    """The columns of a plan."""
    return {"policy": asdict(policy), "rules": [asdict(rule) for rule in rules]}


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
        enabled=bool(decode(["bool"], verified[0])[0]),
        policy=m.decode_policy(verified[1]),
        headroom=m.decode_headroom(verified[3]),
        usdc=int.from_bytes(answers[-1], "big"),
        differences=tuple(onboarding.differences(policy, rules, verified)),
        liquid=_liquid(chain, {rule.token: pool for rule, pool in zip(rules, where, strict=True)}),
    )


def _liquid(chain: Chain, pools: dict[str, str]) -> frozenset[str]:
    there = {token: pool for token, pool in pools.items() if pool != ZERO_ADDRESS}
    depth = chain.many([(pool, encode_call("liquidity()")) for pool in there.values()])
    return frozenset(token for token, found in zip(there, depth, strict=True) if int.from_bytes(found, "big"))


def closing_problem(now: Standing, executor: str) -> str:
    """Why our executor could not even close a position: a code, or empty."""
    if not now.enabled:
        return "module_disabled"
    if now.policy.executor != executor:
        return "executor_not_allowed"  # another policy, or revoked
    return "stopped" if now.headroom.stop_level >= m.HALTED else ""


def opening_problem(now: Standing, executor: str, token: str, spend: int) -> str:
    """Why the module would not open with `spend` USDC: a code, or empty."""
    if problem := closing_problem(now, executor):
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
