"""Read what a Safe allows the PerpModule now, and compare it with the plan that its owners signed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Chain
from trading.chain.models import SafePlan
from trading.reasons import Reason
from trading.venues.gmx.contract import module as p
from trading.venues.safe.units import USDC_DECIMALS, whole
from trading.venues.safe.verify import moment_text, proposal


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a Safe allows now. USDC in base units."""

    enabled: bool
    policy: p.Policy
    rules: tuple[p.MarketRule, ...]
    headroom: p.Headroom
    pending: p.PendingPolicy | None
    usdc: int


def policy_of(plan: SafePlan) -> p.Policy:
    """Return the plan's policy."""
    return p.Policy(**plan.policy)


def rules_of(plan: SafePlan) -> tuple[p.MarketRule, ...]:
    """Return the plan's market rules."""
    return tuple(p.MarketRule(**rule) for rule in plan.rules)


def as_plan(policy: p.Policy, rules: Sequence[p.MarketRule]) -> dict[str, object]:
    """Return the policy and rules as columns of a `SafePlan`."""
    return {"policy": asdict(policy), "rules": [asdict(rule) for rule in rules]}


def reads(safe: str, module: str) -> list[tuple[str, bytes]]:
    """Return the calls whose answers `decoded` takes, for one Multicall3."""
    return [
        (safe, encode_call("isModuleEnabled(address)", module)),
        (module, p.policies_data(safe)),
        (module, p.listed_data(safe)),
        (module, p.headroom_data(safe)),
        (module, p.pending_data(safe)),
    ]


def decoded(answers: Sequence[bytes], usdc: int = 0) -> Allowed:
    """Return what a Safe allows by the answers of `reads`."""
    enabled, policy, rules, headroom, pending = answers
    return Allowed(
        bool(decode(["bool"], enabled)[0]), p.decode_policy(policy), p.decode_listed(rules),
        p.decode_headroom(headroom), p.decode_pending(pending), usdc,
    )  # fmt: skip


def allowed(chain: Chain, module: str, usdc: str, safe: str) -> Allowed:
    """Read what a Safe allows, in one Multicall3 call. Raises Fault where there is no Safe, Retryable."""
    *answers, held = chain.many([*reads(safe, module), (usdc, encode_call("balanceOf(address)", safe))])
    return decoded(answers, int.from_bytes(held, "big"))


def is_planned(pending: p.PendingPolicy, plan: SafePlan) -> bool:
    """Return whether the policy that waits for its delay on the chain is the plan's."""
    return pending.policy == policy_of(plan) and set(pending.rules) == set(rules_of(plan))


def differences(plan: SafePlan, now: Allowed, proposed: SafePlan | None = None) -> list[str]:
    """Return how the chain differs from a plan, as sentences; empty means verified.

    Args:
        proposed: the plan after it. Where it is pending on the chain, the stricter of both is expected meanwhile.
    """
    wanted, rules, pending = policy_of(plan), rules_of(plan), now.pending
    if pending and proposed and is_planned(pending, proposed):
        wanted = wanted.stricter(pending.policy)
        rules = tuple(p.stricter_rules(rules, pending.rules))
        pending = None
    lines = [] if now.enabled else ["the module is not enabled in the Safe"]
    lines += [
        f"{name} is {_value(name, getattr(now.policy, name))}, not {_value(name, getattr(wanted, name))}"
        for name in p.Policy.__dataclass_fields__
        if getattr(now.policy, name) != getattr(wanted, name)
    ]
    if set(now.rules) != set(rules):
        lines.append("the listed markets differ")
    if pending is not None:
        planned = is_planned(pending, plan)
        if lines or not planned:  # otherwise only the total loss budget is pending, and the plan is in force
            name = "the planned policy" if planned else "another policy"
            lines.append(f"{name} is pending: in force from {moment_text(pending.effective_at)}")
    if now.headroom.stop_level:
        lines.append(f"stopped at level {now.headroom.stop_level}")
    return lines


USDC_LIMITS = frozenset(
    {
        "min_collateral", "max_collateral", "max_notional", "daily_collateral", "daily_notional", "loss_budget",
        "total_loss_budget", "trade_fee",
    }
)  # fmt: skip
UNITS = {"cooldown": " s", "loosen_delay": " s", "max_execution_fee": " wei"}


def _value(name: str, value: int | str) -> str:
    """Return a value of the policy with its unit."""
    if name in USDC_LIMITS:
        return f"{whole(int(value), USDC_DECIMALS):,.2f} USDC"
    return f"{value}{UNITS.get(name, ' bps' if name.endswith('_bps') else '')}"


def closing_problem(now: Allowed, executors: Collection[str]) -> str:
    """Return the reason code why none of our `executors` can close a position; empty if one can."""
    if not now.enabled:
        return Reason.MODULE_DISABLED
    if now.policy.executor not in executors:
        return Reason.EXECUTOR_NOT_ALLOWED
    return Reason.STOPPED if now.headroom.stop_level >= p.HALTED else ""


def opening_problem(
    now: Allowed, plan: SafePlan, executors: Collection[str], market: str, collateral: int, notional: int
) -> str:
    """Return the reason code why the module would not open with so much USDC (base units); empty if it would."""
    if problem := closing_problem(now, executors):
        return problem
    left, policy = now.headroom, now.policy
    cost = collateral + policy.trade_fee
    checks = (
        (Reason.STOPPED, left.stop_level >= p.NO_ENTRIES),
        (Reason.POLICY_DIFFERS, bool(differences(plan, now, _proposed(plan, now)))),
        (Reason.TOKEN_NOT_LISTED, market not in {rule.market for rule in now.rules}),
        (Reason.BELOW_MIN_TRADE, collateral < policy.min_collateral),
        (Reason.ABOVE_MAX_TRADE, collateral > policy.max_collateral or notional > policy.max_notional),
        (Reason.INSUFFICIENT_BALANCE, cost > now.usdc),
        (Reason.DAILY_NOTIONAL, collateral > left.collateral_left or notional > left.notional_left),
        (Reason.TRADES_PER_DAY, left.trades_left == 0),
        (Reason.LOSS_BUDGET, min(left.loss_left, left.total_loss_left) < cost),
    )
    return next((code for code, wrong in checks if wrong), "")


def _proposed(plan: SafePlan, now: Allowed) -> SafePlan | None:
    """Return the plan after `plan`, which a policy that is pending on the chain may be."""
    return proposal(plan.chain_id, plan.safe) if now.pending else None
