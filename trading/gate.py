"""The gate in front of every venue: dry run, approval, kill switch. Nothing that a model can call touches it.

Orders leave for a venue only when its dry run is off AND a person has approved its scope AND no kill switch of
that venue's reach is latched. What cannot be read is closed.
"""

from datetime import datetime
from typing import Any

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from trading.models import Approval, Gate, KillSwitch
from trading.risk import GateFacts

APPROVAL_FILE = ROOT / ".tmp" / "APPROVE_EXECUTION"
"""Its presence approves every venue, as the AWET operators know it."""
LEVELS = ("no_entries", "reduce_only", "flatten")
"""From the mildest to the strictest."""


OPEN_VENUES = """
    SELECT g.venue FROM execution_gates g
    WHERE NOT g.dry_run AND (%(approved_by_file)s OR EXISTS (
        SELECT FROM execution_approvals a
        WHERE a.scope IN (g.venue, '*') AND a.revoked_at IS NULL AND a.approved_at <= %(now)s AND a.expires_at > %(now)s
    ))
"""
"""The venues that closing orders may leave for: the kill switch never stops one. Takes `moment()`."""


def moment() -> dict[str, Any]:
    """What `OPEN_VENUES` needs to know of the world outside the database."""
    return {"now": clock.now(), "approved_by_file": APPROVAL_FILE.exists()}


def read(venue: str) -> GateFacts:
    """The gate of `venue` as it stands now; call it in the transaction that reserves the order."""
    gate = Gate.objects.filter(venue=venue).first()
    return GateFacts(
        dry_run=gate is None or gate.dry_run, approved=is_approved(venue), kill_level=kill_level()
    )


def is_approved(venue: str) -> bool:
    """A standing approval of the venue or of all, by row or by the file."""
    now = clock.now()
    standing = Approval.objects.filter(scope__in=(venue, "*"), revoked_at=None)
    return standing.filter(approved_at__lte=now, expires_at__gt=now).exists() or APPROVAL_FILE.exists()


def open_venues() -> list[str]:
    """The venues that closing orders may leave for now."""
    with connection.cursor() as cursor:
        cursor.execute(OPEN_VENUES, moment())
        return [venue for (venue,) in cursor.fetchall()]


def kill_level() -> str:
    """The strictest latched level, or an empty string."""
    latched = set(KillSwitch.objects.filter(released_at=None).values_list("level", flat=True))
    return max(latched, key=LEVELS.index, default="")


@transaction.atomic
def set_dry_run(venue: str, dry_run: bool, *, by: str, reason: str) -> Gate:
    """Open (False) or close (True) the gate of one venue."""
    now = clock.now()
    gate, _ = Gate.objects.update_or_create(
        venue=venue, defaults={"dry_run": dry_run, "changed_at": now, "changed_by": by, "reason": reason}
    )
    record("gate.closed" if dry_run else "gate.opened", gate, by=by, reason=reason)
    return gate


@transaction.atomic
def approve(scope: str, *, by: str, until: datetime, reason: str) -> Approval:
    """A person lets orders of `scope` (a venue, or *) leave until a moment in the future."""
    now = clock.now()
    if until <= now:
        raise Rejected(
            f"an approval must end in the future, not at {until:%Y-%m-%d %H:%M}", code="already_expired"
        )
    made = Approval.objects.create(
        scope=scope, approved_by=by, approved_at=now, expires_at=until, reason=reason
    )
    record("gate.approved", made, scope=scope, by=by, until=until.isoformat(), reason=reason)
    return made


@transaction.atomic
def revoke(scope: str, *, by: str, reason: str) -> int:
    """End every standing approval of `scope`; returns how many."""
    standing = list(Approval.objects.select_for_update().filter(scope=scope, revoked_at=None))
    for one in standing:
        one.revoked_at = clock.now()
        one.save(update_fields=["revoked_at"])
        record("gate.revoked", one, scope=scope, by=by, reason=reason)
    return len(standing)


@transaction.atomic
def kill(level: str, *, by: str, reason: str, cause: str = "manual") -> KillSwitch:
    """Pull the switch. It latches until a person releases it."""
    if level not in LEVELS:
        raise Rejected(f"{level!r} is not one of {', '.join(LEVELS)}", code="unknown_level")
    pulled = KillSwitch.objects.create(
        level=level, cause=cause, reason=reason, pulled_at=clock.now(), pulled_by=by
    )
    record("kill_switch.pulled", pulled, level=level, cause=cause, by=by, reason=reason)
    return pulled


@transaction.atomic
def release(*, by: str, reason: str) -> int:
    """A person lets go of every latched switch, with a reason; returns how many there were."""
    if not reason.strip():
        raise Rejected("releasing the kill switch needs a reason", code="reason_missing")
    latched = list(KillSwitch.objects.select_for_update().filter(released_at=None))
    for one in latched:
        one.released_at, one.released_by, one.release_reason = clock.now(), by, reason
        one.save(update_fields=["released_at", "released_by", "release_reason"])
        record("kill_switch.released", one, by=by, reason=reason)
    return len(latched)
