"""Decide which changed risk limits apply now: stricter values at once, looser ones after a delay. Pure functions.

A limit is a key such as `account.max_open_orders` with a number or a word. A configured value that is stricter than
the one in force applies at once; a looser one waits `loosen_after_seconds`, which is itself such a limit. Symbol
exceptions are compared as resolved values, so that removing a strict exception counts as loosening.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from agents.fees import is_dearer
from maxxit.core.terms import KILL_LEVELS
from maxxit.market.instruments import all_instruments
from trading.risk.policy import STRICTER, RiskPolicy, Stricter, SymbolLimits

Value = Decimal | str | bool | None
Limits = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class WaitingLimit:
    """A looser value that is not in force yet."""

    value: Value
    since: datetime
    """When it was first seen."""
    at: datetime
    """When it takes effect."""


@dataclass(frozen=True, slots=True)
class Change:
    """One limit that changed, or will at `at`."""

    key: str
    old: Value
    new: Value
    at: datetime
    loosens: bool


@dataclass(frozen=True)
class LimitState:
    """The limits in force, the looser values that wait, and what changed now."""

    limits: dict[str, Value]
    waiting: dict[str, WaitingLimit]
    changes: list[Change] = field(default_factory=list)


def limits_by_key(policy: RiskPolicy) -> dict[str, Value]:
    """Return every limit by key, with the resolved limits of each instrument under `symbols.<symbol>`.

    A fee rule is one limit, as a line of text.
    """
    body = policy.model_dump(exclude={"symbols", "fees"})
    limits = dict(_walk("", body)) | {f"fees.{name}": rule.text() for name, rule in policy.fees}
    for symbol in all_instruments():
        own = policy.of(symbol)
        for name in SymbolLimits.model_fields:
            parts = (own.account, own.risk_score, own)
            source = next(part for part in parts if name in type(part).model_fields)
            limits[f"symbols.{symbol}.{name}"] = _plain(getattr(source, name))
    return limits


def _walk(prefix: str, value: Any) -> list[tuple[str, Value]]:
    if isinstance(value, Mapping):
        return [pair for name, part in value.items() for pair in _walk(f"{prefix}{name}.", part)]
    return [(prefix.removesuffix("."), _plain(value))]


def _plain(value: Any) -> Value:
    return value if value is None or isinstance(value, bool | str) else Decimal(str(value))


def with_overrides(policy: RiskPolicy, overrides: Limits) -> RiskPolicy:
    """Return `policy` with other values of some keys; exceptions of tokens stay. Raises ValueError for a wrong one."""
    body = policy.model_dump()
    body["fees"] = {name: rule.text() for name, rule in policy.fees}
    return _with_values(body, overrides)


def with_limits(policy: RiskPolicy, limits: Limits) -> RiskPolicy:
    """Return `policy` with these values instead of its own."""
    body = policy.model_dump()
    body["symbols"] = {}
    body["fees"] = {name: rule.text() for name, rule in policy.fees}
    return _with_values(body, limits)


def _with_values(body: dict[str, Any], limits: Limits) -> RiskPolicy:
    for key, value in limits.items():
        *path, name = key.split(".")
        place = body
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return RiskPolicy.model_validate(body)


def is_looser(key: str, old: Value, new: Value) -> bool:
    """Return whether `new` allows what `old` blocked. An added limit is stricter, a removed one looser.

    An added stop loss of a preset counts as looser too: it replaces the signal's, which may be the nearer one.
    """
    name = key.rpartition(".")[2]
    how = STRICTER[name]
    if how is Stricter.NOT_A_LIMIT or (old is None and name != "stop_loss_pct"):
        return False
    if old is None or new is None or how is Stricter.UNKNOWN:
        return True
    if how is Stricter.LEVEL:
        return KILL_LEVELS.index(str(new)) < KILL_LEVELS.index(str(old))
    if how is Stricter.CHEAPER:
        return is_dearer(str(old), str(new))
    if how is Stricter.FALSE:
        return bool(new) and not old
    if how is Stricter.TRUE:
        return bool(old) and not new
    before, after = Decimal(str(old)), Decimal(str(new))
    return after > before if how is Stricter.LOWER else after < before


def limits_now(
    in_force: Limits, waiting: Mapping[str, WaitingLimit], configured: Limits, now: datetime
) -> LimitState:
    """Return the limits in force at `now`.

    A looser value waits from the time it was first seen; if it changes again, the wait starts again.
    """
    delay = timedelta(seconds=int(Decimal(str(in_force["loosen_after_seconds"]))))
    limits: dict[str, Value] = {}
    still_waiting: dict[str, WaitingLimit] = {}
    changes = []
    for key, wanted in configured.items():
        current = in_force.get(key, wanted)
        limits[key] = current
        if wanted == current:
            continue
        if not is_looser(key, current, wanted):
            limits[key] = wanted
            changes.append(Change(key, current, wanted, now, loosens=False))
            continue
        before = waiting.get(key)
        pending = before if before and before.value == wanted else WaitingLimit(wanted, now, now + delay)
        if pending.at <= now:
            limits[key] = wanted
            changes.append(Change(key, current, wanted, now, loosens=True))
            continue
        still_waiting[key] = pending
        if pending is not before:
            changes.append(Change(key, current, wanted, pending.at, loosens=True))
    return LimitState(limits, still_waiting, changes)
