"""Read what Safes hold and allow for people to look at, in a bounded time, and keep the last answer.

A page never waits longer than `pages.read_seconds` (config/safes.yaml) for a chain: it then shows what was read last,
with its age. Nothing here decides about an order.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.core.cache import cache

from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Retryable
from maxxit.core.money import USDC
from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Fault
from trading.chain.models import SafePlan
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.kinds import SafeKind
from trading.venues.safe.limits import policy as safe_policy
from trading.venues.safe.units import USDC_DECIMALS, whole

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A Safe to read, and the plan that it is compared with."""

    safe: str
    module: str
    plan: SafePlan | None = None


@dataclass(frozen=True, slots=True)
class SafeState:
    """What a Safe holds and allows. USDC limits in base units, balances in whole units."""

    created: bool
    """Whether there is a contract at the address."""
    enabled: bool = False
    """Whether the Safe has enabled the module."""
    owners: tuple[str, ...] = ()
    threshold: int = 0
    policy: Any = None
    """The module's policy in force on the chain; None where none was set, or it was revoked."""
    headroom: Any = None
    """What the policy still allows (the module's `Headroom`); None where nothing was read."""
    pending_at: int = 0
    """When a policy that was set takes effect, a Unix time; 0: none is pending."""
    waits: bool = False
    """Whether that policy is the plan's: until then the stricter of it and the plan before it holds."""
    balances: Mapping[str, Decimal] | None = None
    """USDC and every listed token -> whole units."""
    differences: tuple[str, ...] = ()
    """How the chain differs from the plan; empty without a plan."""

    @property
    def stop_level(self) -> int:
        """What guardian or owners stopped: 0 nothing, 1 entries, 2 everything."""
        level: int = self.headroom.stop_level if self.headroom else 0
        return level


@dataclass(frozen=True, slots=True)
class Seen:
    """A Safe as it was read last."""

    state: SafeState | None
    """None where it was never read."""
    read_at: datetime | None = None
    problem: str = ""
    """Why it could not be read now; empty where `state` is of now."""


def read(at: SafeAccess, asked: Sequence[Asked]) -> dict[str, SafeState]:
    """Return Safe -> state, of the newest block, by Multicall3. Raises Retryable where no endpoint answers."""
    try:
        return _read(at, asked)
    except Fault:
        if len(asked) == 1:
            return {asked[0].safe: SafeState(created=True)}  # a contract that is no Safe
        return {safe: state for one in asked for safe, state in read(at, [one]).items()}


def _read(at: SafeAccess, asked: Sequence[Asked]) -> dict[str, SafeState]:
    assets = [(USDC, at.places.usdc, USDC_DECIMALS)] + [
        (symbol, token.address, token.decimals) for symbol, token in at.places.tokens.items()
    ]
    calls, lengths = [], []
    for one in asked:
        own = [
            (one.safe, encode_call("getOwners()")),
            (one.safe, encode_call("getThreshold()")),
            *((address, encode_call("balanceOf(address)", one.safe)) for _, address, _ in assets),
            *at.kind.reads(one.safe, one.module, one.plan),
        ]
        calls += own
        lengths.append(len(own))
    answers, states = iter(at.chain.many(calls)), {}
    for one, length in zip(asked, lengths, strict=True):
        states[one.safe] = _state(at.kind, one, [next(answers) for _ in range(length)], assets)
    return states


def _state(
    kind: SafeKind, one: Asked, answers: Sequence[bytes], assets: Sequence[tuple[str, str, int]]
) -> SafeState:
    owners, threshold, *rest = answers
    amounts, verified = rest[: len(assets)], rest[len(assets) :]
    balances = {
        symbol: whole(int.from_bytes(amount, "big"), digits)
        for (symbol, _, digits), amount in zip(assets, amounts, strict=True)
    }
    if not owners:
        return SafeState(created=False, balances=balances)
    now = kind.allowed(one.plan, verified)
    return SafeState(
        created=True,
        enabled=now.enabled,
        owners=tuple(decode(["address[]"], owners)[0]),
        threshold=int.from_bytes(threshold, "big"),
        policy=now.policy,
        headroom=now.headroom,
        pending_at=now.pending_at,
        waits=now.waits,
        balances=balances,
        differences=now.differences,
    )


# -- for pages


def look(at: SafeAccess, asked: Sequence[Asked], *, fresh: bool = False) -> dict[str, Seen]:
    """Return Safe -> what was read of it, now or last, within `pages.read_seconds`. Never raises for a chain.

    Args:
        fresh: ask the chain whatever was kept.
    """
    rules, now = safe_policy().pages, clock.now()
    names = {one.safe: _key(at, one) for one in asked}
    kept = {safe: _loaded(at.kind, value) for safe, value in _cached(names).items()}
    young = timedelta(seconds=0 if fresh else rules.fresh_seconds)
    old = [one for one in asked if one.safe not in kept or now - _time(kept[one.safe]) >= young]
    problem = "" if fresh else _problem(at)
    if old and not problem:
        states, problem = _bounded(lambda: read(at, old), rules.read_seconds)
        for safe, state in states.items():
            kept[safe] = Seen(state, now)
        _keep({names[safe]: _stored(kept[safe]) for safe in states}, rules.kept_seconds)
        if problem:
            log.warning("safes_not_shown", chain=at.stanza.chain_id, error=problem)
            _keep({_down(at): {"problem": problem}}, rules.retry_seconds)
    waiting = {one.safe for one in old}
    return {
        safe: replace(kept[safe], problem=problem if safe in waiting else "")
        if safe in kept
        else Seen(None, None, problem)
        for safe in names
    }


def answers(at: SafeAccess) -> str:
    """Return why the chain cannot be used by a wallet now; empty where it answers, within `pages.read_seconds`."""
    rules = safe_policy().pages
    if problem := _problem(at):
        return problem
    if _cached({"": _up(at)}):
        return ""
    _, problem = _bounded(lambda: {"head": at.chain.head()}, rules.read_seconds)
    _keep({_down(at) if problem else _up(at): {"problem": problem}}, rules.retry_seconds)
    return problem


def _bounded(ask: Callable[[], dict[str, Any]], seconds: float) -> tuple[dict[str, Any], str]:
    """Return the answer of `ask` and an empty text, or nothing and why there is none after `seconds`.

    A read that is too slow goes on in its thread until the client's own limit, and its answer is dropped.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []

    def work() -> None:
        try:
            found.update(ask())
        except MaxxitError as error:
            problems.append(str(error))
        except Exception:
            log.exception("safes_not_read")
            problems.append("the answer of the chain could not be read")

    thread = threading.Thread(target=work, name="safe-snapshot", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return {}, f"the chain did not answer within {seconds:g} s"
    return found, problems[0] if problems else ""


def require_answer(at: SafeAccess) -> None:
    """Raise Retryable where the chain does not answer within `pages.read_seconds`."""
    if problem := answers(at):
        raise Retryable(problem)


# -- the kept answers


def _key(at: SafeAccess, one: Asked) -> str:
    plan = f"{one.plan.pk}:{one.plan.created_at.timestamp()}" if one.plan else "-"
    return f"safe:{at.stanza.chain_id}:{one.safe}:{plan}"


def _down(at: SafeAccess) -> str:
    return f"safe:{at.stanza.chain_id}:down"


def _up(at: SafeAccess) -> str:
    return f"safe:{at.stanza.chain_id}:up"


def _problem(at: SafeAccess) -> str:
    return str(_cached({"": _down(at)}).get("", {}).get("problem", ""))


def _cached(names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return name -> kept value, by name -> key; nothing while the cache is down."""
    try:
        values = cache.get_many(names.values())
    except Exception as error:  # any error of the cache backend
        log.warning("safe_cache_down", error=str(error))
        return {}
    return {name: values[key] for name, key in names.items() if key in values}


def _keep(values: dict[str, dict[str, Any]], seconds: int) -> None:
    if not values:
        return
    try:
        cache.set_many(values, timeout=seconds)
    except Exception as error:  # any error of the cache backend
        log.warning("safe_cache_down", error=str(error))


def _stored(seen: Seen) -> dict[str, Any]:
    """Return what is kept, as JSON."""
    if seen.state is None or seen.read_at is None:
        return {}
    state = asdict(seen.state)
    state["balances"] = {symbol: str(amount) for symbol, amount in (seen.state.balances or {}).items()}
    return {"state": state, "read_at": seen.read_at.isoformat()}


def _loaded(kind: SafeKind, value: Mapping[str, Any]) -> Seen:
    state = dict(value["state"])
    state |= {
        "owners": tuple(state["owners"]),
        "differences": tuple(state["differences"]),
        "policy": kind.policy_type(**state["policy"]) if state["policy"] else None,
        "headroom": kind.headroom_type(**state["headroom"]) if state["headroom"] else None,
        "balances": {symbol: Decimal(amount) for symbol, amount in state["balances"].items()},
    }
    return Seen(SafeState(**state), datetime.fromisoformat(value["read_at"]))


def _time(seen: Seen) -> datetime:
    if seen.read_at is None:
        raise ValueError("what is kept was read at some time")
    return seen.read_at
