"""Verify on the chain that a Safe has the policy its owners signed, and what it allows now."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from django.db.models import QuerySet

from maxxit.core.errors import Retryable
from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from maxxit.evm.rpc import Chain, Fault
from trading.chain.chains import Contracts
from trading.chain.models import SafePlan
from trading.reasons import Reason
from trading.venues.safe.contract import module as m
from trading.venues.safe.units import USDC_DECIMALS, whole


@dataclass(frozen=True, slots=True)
class Permission:
    """What a Safe allows its executor now; an exit depends on nothing else."""

    enabled: bool
    policy: m.Policy
    headroom: m.Headroom


@dataclass(frozen=True, slots=True)
class Standing(Permission):
    """A Safe compared with a plan. Amounts in base units."""

    usdc: int
    differences: tuple[str, ...]
    """Differences from the plan; none means verified."""
    liquid: frozenset[str]
    """Tokens whose pool of the policy's fee tier exists and has liquidity."""
    listed: frozenset[str]
    """Tokens that the policy in force on the chain lists."""


def _plans(chain_id: int, safe: str) -> QuerySet[SafePlan]:
    return SafePlan.objects.filter(chain_id=chain_id, safe=safe)


def plan_in_force(chain_id: int, safe: str) -> SafePlan | None:
    """Return the most recently verified plan, which entries are checked against; or None."""
    return _plans(chain_id, safe).exclude(verified_at=None).order_by("-verified_at").first()


def proposal(chain_id: int, safe: str) -> SafePlan | None:
    """Return the plan that is not verified on the chain yet; or None."""
    return _plans(chain_id, safe).filter(verified_at=None).first()


def policy_of(plan: SafePlan) -> m.Policy:
    """Return the plan's policy."""
    return m.Policy(**plan.policy)


def rules_of(plan: SafePlan) -> list[m.TokenRule]:
    """Return the plan's token rules."""
    return [m.TokenRule(**rule) for rule in plan.rules]


def is_planned(pending: m.PendingPolicy, plan: SafePlan) -> bool:
    """Return whether the policy that waits for its delay on the chain is the plan's."""
    return (pending.policy, [*pending.rules]) == (policy_of(plan), rules_of(plan))


def as_plan(policy: m.Policy, rules: Sequence[m.TokenRule]) -> dict[str, object]:
    """Return the policy and rules as columns of a `SafePlan`."""
    return {"policy": asdict(policy), "rules": [asdict(rule) for rule in rules]}


def permission(chain: Chain, module: str, safe: str) -> Permission:
    """Read what the Safe allows now, in one Multicall3 call. Raises Fault where there is no Safe, Retryable."""
    return Permission(*_permission(chain.many(verify_calls(safe, module, []))))


@dataclass(frozen=True, slots=True)
class Tradable:
    """What a Safe allows for one token."""

    permission: Permission
    pool_fee: int
    """The fee tier, in millionths, that the policy names for the token; 0 where it does not list the token."""


def tradable(
    chain: Chain, module: str, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Tradable | Fault | Retryable]:
    """Read (Safe, token) pairs in one Multicall3 call: what each Safe allows now, or why that is not known.

    Where one read reverts (Fault: there is no Safe), each half is read without the other. Raises Retryable where no
    endpoint answers.
    """
    pairs = list(dict.fromkeys(wanted))
    calls = [[*verify_calls(safe, module, []), (module, m.rule_data(safe, token))] for safe, token in pairs]
    try:
        answers = iter(chain.many([call for of_pair in calls for call in of_pair]))
    except Fault as fault:
        if len(pairs) == 1:
            return {pairs[0]: fault}
        middle = len(pairs) // 2
        return tradable(chain, module, pairs[:middle]) | tradable(chain, module, pairs[middle:])
    return {
        pair: _tradable([next(answers) for _ in of_pair]) for pair, of_pair in zip(pairs, calls, strict=True)
    }


def _permission(verified: Sequence[bytes]) -> tuple[bool, m.Policy, m.Headroom]:
    return (
        bool(decode(["bool"], verified[0])[0]),
        m.decode_policy(verified[1]),
        m.decode_headroom(verified[3]),
    )


def _tradable(answers: Sequence[bytes]) -> Tradable | Retryable:
    *verified, rule = answers
    try:
        return Tradable(Permission(*_permission(verified)), m.decode_pool_fee(rule))
    except Retryable as error:
        return error


def standing(chain: Chain, places: Contracts, plan: SafePlan, proposed: SafePlan | None = None) -> Standing:
    """Compare a Safe with a plan: one Multicall3 call and one for the pools.

    Args:
        proposed: the plan after it. While the chain shows it as pending, the Safe is compared with the stricter of
            both.

    Raises Fault where the address is not a Safe, Retryable.
    """
    policy, rules = policy_of(plan), rules_of(plan)
    calls = verify_calls(plan.safe, plan.module, rules)
    lookup = "getPool(address,address,uint24)"
    pools = [(places.factory, encode_call(lookup, places.usdc, rule.token, rule.pool_fee)) for rule in rules]
    balance = (places.usdc, encode_call("balanceOf(address)", plan.safe))
    answers = chain.many([*calls, *pools, balance])
    verified, pool_answers = answers[: len(calls)], answers[len(calls) : -1]
    addresses = [decode(["address"], answer)[0] for answer in pool_answers]
    pools_of = {rule.token: pool for rule, pool in zip(rules, addresses, strict=True)}
    return Standing(
        *_permission(verified),
        usdc=int.from_bytes(answers[-1], "big"),
        differences=tuple(differences(policy, rules, verified, proposed)),
        liquid=_liquid(chain, pools_of),
        listed=frozenset(decode(["address[]"], verified[2])[0]),
    )


def _liquid(chain: Chain, pools: dict[str, str]) -> frozenset[str]:
    existing = {token: pool for token, pool in pools.items() if pool != ZERO_ADDRESS}
    answers = chain.many([(pool, encode_call("liquidity()")) for pool in existing.values()])
    return frozenset(
        token for token, answer in zip(existing, answers, strict=True) if int.from_bytes(answer, "big")
    )


def closing_problem(now: Permission, executors: Collection[str]) -> str:
    """Return the reason code why none of our `executors` can close a position; empty if one can."""
    if not now.enabled:
        return Reason.MODULE_DISABLED
    if now.policy.executor not in executors:
        return Reason.EXECUTOR_NOT_ALLOWED  # another policy is in force, or it was revoked
    return Reason.STOPPED if now.headroom.stop_level >= m.HALTED else ""


def opening_problem(now: Standing, executors: Collection[str], token: str, spend: int) -> str:
    """Return the reason code why the module would not open with `spend` USDC base units; empty if it would."""
    if problem := closing_problem(now, executors):
        return problem
    left, policy = now.headroom, now.policy
    checks = (
        (Reason.STOPPED, left.stop_level >= m.NO_ENTRIES),
        (Reason.POLICY_DIFFERS, bool(now.differences)),
        (Reason.TOKEN_NOT_LISTED, token not in now.listed),
        (Reason.POOL_MISSING, token not in now.liquid),
        (Reason.BELOW_MIN_TRADE, spend < policy.min_trade),
        (Reason.ABOVE_MAX_TRADE, spend > policy.max_trade),
        (Reason.INSUFFICIENT_BALANCE, spend + policy.trade_fee > now.usdc),
        (Reason.DAILY_NOTIONAL, spend > left.notional_left),
        (Reason.TRADES_PER_DAY, left.trades_left == 0),
        (Reason.LOSS_BUDGET, min(left.loss_left, left.total_loss_left) < policy.trade_fee),
    )
    return next((code for code, wrong in checks if wrong), "")


def verify_calls(safe: str, module: str, rules: Sequence[m.TokenRule]) -> list[tuple[str, bytes]]:
    """Return the reads (target, calldata) whose answers `differences` compares, for one Multicall3."""
    return [
        (safe, encode_call("isModuleEnabled(address)", module)),
        (module, m.policies_data(safe)),
        (module, m.listed_data(safe)),
        (module, m.headroom_data(safe)),
        (module, m.pending_data(safe)),
        *((module, m.rule_data(safe, rule.token)) for rule in rules),
    ]


def differences(
    policy: m.Policy, rules: Sequence[m.TokenRule], answers: Sequence[bytes], proposed: SafePlan | None = None
) -> list[str]:
    """Return how the chain differs from `policy` and `rules`, as sentences; empty means verified.

    Args:
        answers: in the order of `verify_calls`.
        proposed: the plan after them. Where it is pending on the chain, the stricter of both is expected meanwhile.
    """
    enabled, on_chain, listed, headroom, waiting, *of_rules = answers
    pending, rule_answers = (
        m.decode_pending(waiting),
        dict(zip((rule.token for rule in rules), of_rules, strict=True)),
    )
    if pending and proposed and is_planned(pending, proposed):
        policy, rules = policy.stricter(pending.policy), m.stricter_rules(rules, pending.rules)
        pending = None
    lines = [] if decode(["bool"], enabled)[0] else ["the module is not enabled in the Safe"]
    actual = m.decode_policy(on_chain)
    for name in m.Policy.__dataclass_fields__:
        expected, seen = getattr(policy, name), getattr(actual, name)
        if expected != seen:
            lines.append(f"{name} is {_value(name, seen)}, not {_value(name, expected)}")
    tokens = set(decode(["address[]"], listed)[0])
    if tokens != {rule.token for rule in rules}:
        lines.append("the listed tokens differ")
    for rule in rules:
        seen_rule = decode(["address", "uint24", "uint256", "uint256", "bool"], rule_answers[rule.token])[:3]
        if rule.token in tokens and seen_rule != (rule.feed, rule.pool_fee, rule.max_age):
            lines.append(f"feed, pool or age of {rule.token} differ")
    if pending is not None:
        planned = (pending.policy, pending.rules) == (policy, tuple(rules))
        if lines or not planned:  # otherwise only the total loss budget is pending, and the plan is in force
            name = "the planned policy" if planned else "another policy"
            lines.append(f"{name} is pending: in force from {moment_text(pending.effective_at)}")
    level = m.decode_headroom(headroom).stop_level
    return [*lines, f"stopped at level {level}"] if level else lines


USDC_LIMITS = frozenset(
    {"min_trade", "max_trade", "daily_notional", "loss_budget", "total_loss_budget", "trade_fee"}
)
SECONDS = frozenset({"cooldown", "loosen_delay"})


def _value(name: str, value: int | str) -> str:
    """Return a value of the policy with its unit."""
    if name in USDC_LIMITS:
        return f"{whole(int(value), USDC_DECIMALS):,.2f} USDC"
    unit = " s" if name in SECONDS else " bps" if name.endswith("_bps") else ""
    return f"{value}{unit}"


def moment_text(unix: int) -> str:
    """Return a Unix time as people read it, in UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
