"""The risk limits in force: `config/risk.yaml`, less what is looser than before and still waits."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from maxxit.core import clock
from maxxit.core.money import plain
from maxxit.events.record import record
from trading.limit_changes import Standing, Value, Waiting, flat, settled, with_limits
from trading.models import LimitsInForce
from trading.policy import RiskPolicy, policy

log = structlog.get_logger(__name__)

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What a row raises that is not as this module stores it."""


def risk_limits() -> RiskPolicy:
    """The policy that entries are held against now; stores and records what changes.

    One query and no lock where nothing changed. A row that cannot be read raises, which stops entries.
    """
    configured = policy()
    row = LimitsInForce.objects.first()
    if row is None:
        return with_limits(configured, refresh(configured).limits)
    standing = _standing(row, configured)
    if _differs(row, standing):
        standing = refresh(configured)
    return with_limits(configured, standing.limits)


def protective_limits() -> RiskPolicy:
    """The same for what protects positions: their exits, and the triggers of the kill switch.

    Stores and locks nothing. A row that cannot be read stops no exit: the configured limits hold then.
    """
    configured = policy()
    row = LimitsInForce.objects.first()
    if row is None:
        return configured
    try:
        return with_limits(configured, _standing(row, configured).limits)
    except UNREADABLE as error:
        log.error("limits_unreadable", error=str(error))
        return configured


@transaction.atomic
def refresh(configured: RiskPolicy) -> Standing:
    """Hold the configured limits against those in force, store and record what changes."""
    wanted, now = flat(configured), clock.now()
    row, new = LimitsInForce.objects.select_for_update().get_or_create(
        pk=1, defaults={"limits": _stored(wanted), "waiting": {}, "changed_at": now}
    )
    if new:
        return Standing(wanted, {})
    standing = _standing(row, configured)
    if _differs(row, standing):
        row.limits, row.waiting, row.changed_at = _stored(standing.limits), _stored_waiting(standing), now
        row.save()
    for one in standing.changes:
        record(
            "limits.changed", row, limit=one.key, old=_text(one.old), new=_text(one.new),
            in_force_at=one.at.isoformat(), loosens=one.loosens,
        )  # fmt: skip
    return standing


def _standing(row: LimitsInForce, configured: RiskPolicy) -> Standing:
    return settled(_loaded(row.limits), _waiting(row.waiting), flat(configured), clock.now())


def _differs(row: LimitsInForce, standing: Standing) -> bool:
    return (row.limits, row.waiting) != (_stored(standing.limits), _stored_waiting(standing))


def waiting() -> dict[str, Waiting]:
    """The looser limits that are not in force yet, by key. Raises `UNREADABLE`."""
    row = LimitsInForce.objects.first()
    return _standing(row, policy()).waiting if row else {}


def _stored(limits: dict[str, Value]) -> dict[str, Any]:
    return {key: plain(value) if isinstance(value, Decimal) else value for key, value in limits.items()}


def _loaded(stored: dict[str, Any]) -> dict[str, Value]:
    return {key: _value(value) for key, value in stored.items()}


def _value(stored: Any) -> Value:
    if isinstance(stored, str) and stored.replace(".", "", 1).isdecimal():
        return Decimal(stored)
    found: Value = stored
    return found


def _stored_waiting(standing: Standing) -> dict[str, Any]:
    return {
        key: {
            "value": _stored({key: one.value})[key],
            "since": one.since.isoformat(),
            "at": one.at.isoformat(),
        }
        for key, one in standing.waiting.items()
    }


def _waiting(stored: dict[str, Any]) -> dict[str, Waiting]:
    return {
        key: Waiting(
            _value(one["value"]), datetime.fromisoformat(one["since"]), datetime.fromisoformat(one["at"])
        )
        for key, one in stored.items()
    }


def _text(value: Value) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
