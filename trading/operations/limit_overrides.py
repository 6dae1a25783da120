"""Operators' overrides of risk limits: a value over that of `config/risk.yaml`, with a reason, who and when.

A stricter value applies at once; a looser one after `loosen_after_seconds`, as a change of the file does. Fees are not
overridden: the policies of Safes name them, so they change in the file, with a plan for each Safe.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

import structlog
from django.db import transaction
from pydantic import ValidationError

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from trading.models import LimitsInForce
from trading.operations.limit_changes import Value, is_looser, limits_by_key, with_overrides
from trading.risk.limits_in_force import (
    UNREADABLE,
    configured_limits,
    locked_row,
    override_values,
    store_changes,
    stored_value,
    value_text,
    values_in_force,
)
from trading.risk.policy import policy

log = structlog.get_logger(__name__)

FIXED = "fees."
NONE, ON, OFF = "none", "on", "off"
WORDS = {ON: True, "true": True, "yes": True, OFF: False, "false": False, "no": False}
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Override:
    """A limit that an operator set."""

    value: Value
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to a limit."""

    key: str
    old: Value
    """The configured value before: of the file, or of the override that is replaced."""
    new: Value
    looser: bool
    in_force_at: datetime
    """Now for a stricter value, after the delay for a looser one."""


def overrides() -> dict[str, Override]:
    """Return the overrides by key."""
    row = LimitsInForce.objects.first()
    if row is None:
        return {}
    values = override_values(row)
    return {
        key: Override(values[key], stored["reason"], stored["by"], datetime.fromisoformat(stored["at"]))
        for key, stored in row.overrides.items()
    }


def parse(key: str, text: str) -> Value:
    """Return `text` as a value of the limit `key`: a number, a word, `on`, `off` or `none`. Raises Rejected."""
    known = limits_by_key(policy())
    if key not in known:
        raise Rejected(f"no limit {key!r}: `manage.py limits list` shows them", code="unknown_limit")
    if key.startswith(FIXED):
        raise Rejected(
            f"{key} is not overridden: the policies of Safes name the fees, so change them in config/risk.yaml "
            "and plan each Safe again",
            code="fixed_limit",
        )
    typed = text.strip()
    if isinstance(known[key], bool):
        if typed.lower() not in WORDS:
            raise Rejected(f"{key}: {typed[:40]!r} is neither on nor off", code="bad_value")
        return WORDS[typed.lower()]
    if typed.lower() == NONE:
        return None
    try:
        number = Decimal(typed)
    except InvalidOperation:
        return typed
    if not number.is_finite():
        raise Rejected(f"{key}: {typed[:40]} is not a finite number", code="bad_value")
    return number


def preview(key: str, text: str) -> Effect:
    """Return what setting `key` to `text` would do, without doing it. Raises Rejected for a wrong value."""
    row, value = LimitsInForce.objects.first(), parse(key, text)
    return _effect(row, key, {key: value})


def preview_removal(key: str) -> Effect:
    """Return what removing the override of `key` would do. Raises Rejected where there is none."""
    row = LimitsInForce.objects.first()
    if row is None or key not in row.overrides:
        raise Rejected(f"{key} is not overridden", code="no_override")
    return _effect(row, key, {})


@transaction.atomic
def set_override(key: str, text: str, *, by: str, reason: str) -> Effect:
    """Override the limit `key`; record who, why, the old and the new value.

    Raises Rejected for an unknown limit, a value that the policy refuses or that is configured already, or no reason.
    """
    value, why = parse(key, text), _reason(reason)
    row, _ = locked_row()
    effect = _effect(row, key, {key: value})
    if effect.old == effect.new:
        raise Rejected(f"{key} is {value_text(effect.new)} already", code="no_change")
    stored = {"value": stored_value(value), "reason": why, "by": by, "at": clock.now().isoformat()}
    row.overrides = row.overrides | {key: stored}
    _save(row, "limits.override_set", effect, by=by, reason=why)
    return effect


@transaction.atomic
def remove_override(key: str, *, by: str, reason: str) -> Effect:
    """Return the limit `key` to the value of `config/risk.yaml`. Raises Rejected where it is not overridden."""
    why = _reason(reason)
    row, _ = locked_row()
    if key not in row.overrides:
        raise Rejected(f"{key} is not overridden", code="no_override")
    effect = _effect(row, key, {})
    row.overrides = {name: stored for name, stored in row.overrides.items() if name != key}
    _save(row, "limits.override_removed", effect, by=by, reason=why)
    return effect


def _reason(text: str) -> str:
    reason = text.strip()
    if not 3 <= len(reason) <= LONGEST_REASON:
        raise Rejected(
            f"changing a limit needs a reason of 3 to {LONGEST_REASON} characters", code="reason_missing"
        )
    return reason


def _save(row: LimitsInForce, name: str, effect: Effect, *, by: str, reason: str) -> None:
    row.save(update_fields=["overrides"])
    record(
        name, row, limit=effect.key, old=value_text(effect.old), new=value_text(effect.new), by=by, reason=reason,
        loosens=effect.looser, in_force_at=effect.in_force_at.isoformat(),
    )  # fmt: skip
    with _stored_limits():
        store_changes(row)


@contextmanager
def _stored_limits() -> Iterator[None]:
    """Raise Rejected where a stored row cannot be parsed."""
    try:
        yield
    except UNREADABLE as error:
        log.error("limits_unreadable", error=str(error))
        raise Rejected(
            "the stored limits cannot be read, so entries are stopped: `manage.py doctor` says what is wrong",
            code="limits_unreadable",
        ) from error


def _effect(row: LimitsInForce | None, key: str, change: Mapping[str, Value]) -> Effect:
    """Return what overriding `key` by `change` does; empty: without an override. Raises Rejected for a wrong value."""
    with _stored_limits():
        standing = override_values(row) if row else {}
        in_force = values_in_force(row) if row else {}
    others = {name: value for name, value in standing.items() if name != key}
    try:
        wanted = limits_by_key(with_overrides(policy(), {**others, **change}))
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        given = value_text(change[key]) if key in change else "the value of config/risk.yaml"
        raise Rejected(f"{key} cannot be {given}: {what}", code="bad_value") from error
    before = wanted
    with suppress(*UNREADABLE):  # an override that the file no longer allows can still be removed
        before = limits_by_key(configured_limits(row))
    in_force = in_force or before
    current, new = in_force.get(key), wanted.get(key)
    looser = current != new and is_looser(key, current, new)
    now = clock.now()
    with _stored_limits():
        delay = timedelta(seconds=int(Decimal(str(in_force["loosen_after_seconds"]))))
    return Effect(key, before.get(key), new, looser, now + delay if looser else now)
