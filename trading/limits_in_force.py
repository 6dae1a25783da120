"""Return the risk limits in force: `config/risk.yaml`, except looser values that still wait for their delay."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.money import plain
from maxxit.events.record import record
from trading.limit_changes import LimitState, Value, WaitingLimit, limits_by_key, limits_now, with_limits
from trading.models import LimitsInForce
from trading.policy import RiskPolicy, policy

log = structlog.get_logger(__name__)

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""Raised by a stored row that this module cannot parse."""


def risk_limits() -> RiskPolicy:
    """Return the policy that entries are checked against now; store and record what changed.

    One query and no lock where nothing changed. Raises `UNREADABLE` for a damaged row, which stops entries.
    """
    configured = policy()
    row = _row()
    if row is None:
        return with_limits(configured, refresh(configured).limits)
    if _is_as_configured(row, configured):
        return configured
    state = _state(row, configured)
    if _differs(row, state):
        state = refresh(configured)
    return with_limits(configured, state.limits)


def protective_limits() -> RiskPolicy:
    """Return the policy for exits and kill-switch triggers; store and lock nothing.

    A damaged row must not stop exits: the configured limits apply then.
    """
    configured = policy()
    row = _row()
    if row is None:
        return configured
    if _is_as_configured(row, configured):
        return configured
    try:
        return with_limits(configured, _state(row, configured).limits)
    except UNREADABLE as error:
        log.error("limits_unreadable", error=str(error))
        return configured


ROW = "SELECT id, limits::text, waiting::text, changed_at FROM risk_limits_in_force ORDER BY id LIMIT 1"


def _row() -> LimitsInForce | None:
    with connection.cursor() as cursor:  # at every reservation: the ORM would take longer than the database
        cursor.execute(ROW)
        row = cursor.fetchone()
    if row is None:
        return None
    pk, limits, waiting, changed_at = row
    return LimitsInForce(pk=pk, limits=json.loads(limits), waiting=json.loads(waiting), changed_at=changed_at)


@transaction.atomic
def refresh(configured: RiskPolicy) -> LimitState:
    """Compare the configured limits with those in force; store and record what changed."""
    wanted, now = limits_by_key(configured), clock.now()
    row, new = LimitsInForce.objects.select_for_update().get_or_create(
        pk=1, defaults={"limits": _stored(wanted), "waiting": {}, "changed_at": now}
    )
    if new:
        return LimitState(wanted, {})
    state = _state(row, configured)
    if _differs(row, state):
        row.limits, row.waiting, row.changed_at = _stored(state.limits), _stored_waiting(state), now
        row.save()
    for change in state.changes:
        record(
            "limits.changed", row, limit=change.key, old=_text(change.old), new=_text(change.new),
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
    return _state(row, policy()).waiting if row else {}


def _stored(limits: dict[str, Value]) -> dict[str, Any]:
    return {key: plain(value) if isinstance(value, Decimal) else value for key, value in limits.items()}


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
            "value": _stored({key: limit.value})[key],
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


def _text(value: Value) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
