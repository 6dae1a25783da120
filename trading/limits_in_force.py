"""The risk limits in force: `config/risk.yaml`, less what is looser than before and still waits."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from maxxit.core import clock
from maxxit.core.money import plain
from maxxit.events.record import record
from trading.limit_changes import Standing, Value, Waiting, flat, settled, with_limits
from trading.models import LimitsInForce
from trading.policy import RiskPolicy, policy


def risk_limits() -> RiskPolicy:
    """The policy that orders, exits and triggers are held against now.

    One query where nothing changed. A row that cannot be read raises, which stops entries.
    """
    configured = policy()
    row = LimitsInForce.objects.first()
    if row is not None and not row.waiting and row.limits == _stored(flat(configured)):
        return configured
    return with_limits(configured, refresh(configured).limits)


@transaction.atomic
def refresh(configured: RiskPolicy) -> Standing:
    """Hold the configured limits against those in force, store and record what changes."""
    wanted, now = flat(configured), clock.now()
    row, new = LimitsInForce.objects.select_for_update().get_or_create(
        pk=1, defaults={"limits": _stored(wanted), "waiting": {}, "changed_at": now}
    )
    if new:
        return Standing(wanted, {})
    standing = settled(_loaded(row.limits), _waiting(row.waiting), wanted, now)
    limits, waiting = _stored(standing.limits), _stored_waiting(standing)
    if (limits, waiting) != (row.limits, row.waiting):
        row.limits, row.waiting, row.changed_at = limits, waiting, now
        row.save()
    for one in standing.changes:
        record(
            "limits.changed", row, limit=one.key, old=_text(one.old), new=_text(one.new),
            in_force_at=one.at.isoformat(), loosens=one.loosens,
        )  # fmt: skip
    return standing


def waiting() -> dict[str, Waiting]:
    """The looser limits that are not in force yet, by key."""
    row = LimitsInForce.objects.first()
    return _waiting(row.waiting) if row else {}


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
