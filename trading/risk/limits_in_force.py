"""Return the risk limits in force: `config/risk.yaml`, overridden by operators, except looser values that still wait.

An override (`trading.limit_overrides`) replaces the file's value of one limit; from there it is a configured value like
any other: stricter at once, looser after the delay.
"""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.money import plain
from maxxit.events.record import record
from trading.models import LimitsInForce
from trading.operations.limit_changes import (
    LimitState,
    Value,
    WaitingLimit,
    limits_by_key,
    limits_now,
    with_limits,
    with_overrides,
)
from trading.risk.policy import RiskPolicy, policy

log = structlog.get_logger(__name__)

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""Raised by a stored row that this module cannot parse."""


def risk_limits() -> RiskPolicy:
    """Return the policy that entries are checked against now; store and record what changed.

    One query and no lock where nothing changed. Raises `UNREADABLE` for a damaged row, which stops entries.
    """
    row = _row()
    if row is None:
        return with_limits(policy(), refresh().limits)
    configured = configured_limits(row)
    if _is_as_configured(row, configured):
        return configured
    state = _state(row, configured)
    if _differs(row, state):
        state = refresh()
    return with_limits(configured, state.limits)


def protective_limits() -> RiskPolicy:
    """Return the policy for exits and kill-switch triggers; store and lock nothing.

    A damaged row must not stop exits: the configured limits apply then.
    """
    row = _row()
    if row is None:
        return policy()
    try:
        configured = configured_limits(row)
        if _is_as_configured(row, configured):
            return configured
        return with_limits(configured, _state(row, configured).limits)
    except UNREADABLE as error:
        log.error("limits_unreadable", error=str(error))
        return policy()


def configured_limits(row: LimitsInForce | None) -> RiskPolicy:
    """Return the file's policy with the overrides of the row. Raises `UNREADABLE` for an override that is wrong."""
    global _overridden
    base = policy()
    if row is None or row.overrides == {}:
        return base
    if _overridden is None or _overridden[0] is not base or _overridden[1] != row.overrides:
        _overridden = base, row.overrides, with_overrides(base, override_values(row))
    return _overridden[2]


_overridden: tuple[RiskPolicy, dict[str, Any], RiskPolicy] | None = None
"""The file's policy, the overrides as stored, and the policy that both give."""


def override_values(row: LimitsInForce) -> dict[str, Value]:
    """Return the overridden limits by key. Raises `UNREADABLE` for a damaged row."""
    return {key: _value(override["value"]) for key, override in row.overrides.items()}


def values_in_force(row: LimitsInForce) -> dict[str, Value]:
    """Return the limits of the row that are in force, by key. Raises `UNREADABLE` for a damaged row."""
    return _loaded(row.limits)


ROW = """
SELECT id, limits::text, waiting::text, changed_at, overrides::text FROM risk_limits_in_force ORDER BY id LIMIT 1
"""


def _row() -> LimitsInForce | None:
    with connection.cursor() as cursor:  # at every reservation: the ORM would take longer than the database
        cursor.execute(ROW)
        row = cursor.fetchone()
    if row is None:
        return None
    pk, limits, waiting, changed_at, overrides = row
    return LimitsInForce(
        pk=pk,
        limits=json.loads(limits),
        waiting=json.loads(waiting),
        changed_at=changed_at,
        overrides=json.loads(overrides),
    )


@transaction.atomic
def refresh() -> LimitState:
    """Compare the configured limits with those in force; store and record what changed."""
    row, new = locked_row()
    if new:
        return LimitState(limits_by_key(policy()), {})
    return store_changes(row)


def locked_row() -> tuple[LimitsInForce, bool]:
    """Return the row, locked until the transaction ends, and whether it was created now."""
    return LimitsInForce.objects.select_for_update().get_or_create(
        pk=1,
        defaults={"limits": _stored(limits_by_key(policy())), "waiting": {}, "changed_at": clock.now()},
    )


def store_changes(row: LimitsInForce) -> LimitState:
    """Store and record in the locked row what its overrides and the file change."""
    now = clock.now()
    state = _state(row, configured_limits(row))
    if _differs(row, state):
        row.limits, row.waiting, row.changed_at = _stored(state.limits), _stored_waiting(state), now
        row.save()
    for change in state.changes:
        record(
            "limits.changed", row, limit=change.key, old=value_text(change.old), new=value_text(change.new),
            in_force_at=change.at.isoformat(), loosens=change.loosens,
        )  # fmt: skip
    return state


def _state(row: LimitsInForce, configured: RiskPolicy) -> LimitState:
    return limits_now(_loaded(row.limits), _waiting(row.waiting), limits_by_key(configured), clock.now())


def _differs(row: LimitsInForce, state: LimitState) -> bool:
    return (row.limits, row.waiting) != (_stored(state.limits), _stored_waiting(state))


def _is_as_configured(row: LimitsInForce, configured: RiskPolicy) -> bool:
    """Return whether every configured limit is in force and none waits: the usual case, which is worth no parsing."""
    global _parsed
    if _parsed is None or _parsed[0] is not configured:
        _parsed = configured, _stored(limits_by_key(configured))
    return bool(row.limits == _parsed[1] and row.waiting == {})


_parsed: tuple[RiskPolicy, dict[str, Any]] | None = None
"""The configured policy of this process as `LimitsInForce` stores it."""


def waiting_limits() -> dict[str, WaitingLimit]:
    """Return the looser limits that are not in force yet, by key. Raises `UNREADABLE` for a damaged row."""
    row = LimitsInForce.objects.first()
    return _state(row, configured_limits(row)).waiting if row else {}


def stored_value(value: Value) -> Any:
    """Return a value as it is stored in the row."""
    return plain(value) if isinstance(value, Decimal) else value


def _stored(limits: dict[str, Value]) -> dict[str, Any]:
    return {key: stored_value(value) for key, value in limits.items()}


FORMER_FEE, FEE = "fees.platform_fee_usdc", "fees.trade"


def _loaded(stored: dict[str, Any]) -> dict[str, Value]:
    """The limits of a row; the fee of a row from before fees were rules becomes the rule that says the same."""
    found = {key: _value(value) for key, value in stored.items()}
    if FORMER_FEE in found:
        found[FEE] = f"flat amount_usdc={found.pop(FORMER_FEE)}"
    return found


def _value(stored: Any) -> Value:
    if isinstance(stored, str) and stored.replace(".", "", 1).isdecimal():
        return Decimal(stored)
    value: Value = stored
    return value


def _stored_waiting(state: LimitState) -> dict[str, Any]:
    return {
        key: {
            "value": stored_value(limit.value),
            "since": limit.since.isoformat(),
            "at": limit.at.isoformat(),
        }
        for key, limit in state.waiting.items()
    }


def _waiting(stored: dict[str, Any]) -> dict[str, WaitingLimit]:
    return {
        key: WaitingLimit(
            _value(row["value"]), datetime.fromisoformat(row["since"]), datetime.fromisoformat(row["at"])
        )
        for key, row in stored.items()
    }


def value_text(value: Value) -> str:
    """Return a value as events and messages write it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
