"""The gate in front of every venue: dry run, approval, kill switch. Nothing that a model can call touches it.

Orders leave for a venue only when its dry run is off AND a person has approved its scope AND no kill switch of
that venue's reach is latched. What cannot be read is closed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, QuerySet, When

from agents.models import Deployment
from maxxit.core import clock, correlation
from maxxit.core.config import ROOT
from maxxit.core.errors import Rejected
from maxxit.core.terms import KILL_LEVELS
from maxxit.events.record import record, record_all
from trading.models import Approval, Gate, KillSwitch
from trading.risk import GateFacts

APPROVAL_FILE = ROOT / ".tmp" / "APPROVE_EXECUTION"
"""Its presence approves every venue, as the AWET operators know it."""


NOT_REVOKED = """
    SELECT FROM execution_approvals a
    WHERE a.scope IN ({venue}, '*') AND a.revoked_at IS NULL AND a.approved_at <= %(now)s
      AND (a.expires_at > %(now)s OR NOT EXISTS (
          SELECT FROM execution_approvals r WHERE r.scope IN ({venue}, '*') AND r.revoked_at >= a.approved_at
      ))
"""
"""The approvals of a venue that let what reduces risk leave: a standing one, or one that only expired and that nobody
revoked a later or wider one of."""

OPEN_VENUES = f"""
    SELECT g.venue FROM execution_gates g
    WHERE NOT g.dry_run AND (%(approved_by_file)s OR EXISTS ({NOT_REVOKED.format(venue="g.venue")}))
"""  # noqa: S608 (constants only)
"""The venues that closing orders may leave for. The kill switch and an expired approval stop entries only; dry run
and a revoked approval are a person's decision and stop closing orders too. Takes `moment()`."""


def moment() -> dict[str, Any]:
    """What `OPEN_VENUES` needs to know of the world outside the database."""
    return {"now": clock.now(), "approved_by_file": APPROVAL_FILE.exists()}


def read(venue: str, account: str = "") -> GateFacts:
    """The gate of `venue` as it stands now, with the kill switches of `account` besides the platform's.

    Call it in the transaction that reserves the order, and again right before anything is sent.
    """
    gate = Gate.objects.filter(venue=venue).first()
    approved = is_approved(venue)
    return GateFacts(
        dry_run=gate is None or gate.dry_run,
        approved=approved,
        kill_level=kill_level(account),
        expired=not approved and _only_expired(venue),
    )


def is_approved(venue: str) -> bool:
    """A standing approval of the venue or of all, by row or by the file."""
    now = clock.now()
    standing = Approval.objects.filter(scope__in=(venue, "*"), revoked_at=None)
    return standing.filter(approved_at__lte=now, expires_at__gt=now).exists() or APPROVAL_FILE.exists()


def _only_expired(venue: str) -> bool:
    """The venue was approved, nobody revoked it, and its time has passed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS ({NOT_REVOKED.format(venue='%(venue)s')})", moment() | {"venue": venue}
        )
        return bool(cursor.fetchone()[0])


def open_venues() -> list[str]:
    """The venues that closing orders may leave for now."""
    with connection.cursor() as cursor:
        cursor.execute(OPEN_VENUES, moment())
        return [venue for (venue,) in cursor.fetchall()]


def latched() -> QuerySet[KillSwitch]:
    """Every switch that nobody has released, the platform's first, then the newest."""
    return KillSwitch.objects.filter(released_at=None).order_by(
        Case(When(account="", then=0), default=1), "-pk"
    )


def kill_level(account: str = "") -> str:
    """The strictest level latched for the platform, or for `account` where one is given; empty for none."""
    standing = KillSwitch.objects.filter(released_at=None, account__in={"", account})
    return max(standing.values_list("level", flat=True), key=KILL_LEVELS.index, default="")


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
def kill(level: str, *, by: str, reason: str, cause: str = "manual", account: str = "") -> KillSwitch:
    """Pull the switch, for the whole platform or for one account. It latches until a person releases it."""
    return kill_all([KillSwitch(level=level, cause=cause, account=account, reason=reason, pulled_by=by)])[0]


@transaction.atomic
def kill_all(switches: Sequence[KillSwitch]) -> list[KillSwitch]:
    """Pull many at once: level, cause, account, reason and `pulled_by` are given."""
    for one in switches:
        if one.level not in KILL_LEVELS:
            raise Rejected(f"{one.level!r} is not one of {', '.join(KILL_LEVELS)}", code="unknown_level")
        one.pulled_at = clock.now()
    pulled = KillSwitch.objects.bulk_create(switches)
    _record("kill_switch.pulled", pulled)
    return pulled


def _record(name: str, switches: Sequence[KillSwitch]) -> None:
    """Write down what happened to the switches; one of an account names it and its owner, who is told too."""
    stopped = {one.account for one in switches if one.account}
    theirs = Deployment.objects.filter(account__in=stopped).exclude(owner=None).order_by("pk")
    owners = dict(theirs.values_list("account", "owner"))

    def data(one: KillSwitch) -> dict[str, Any]:
        by, reason = (one.released_by, one.release_reason) if one.released_at else (one.pulled_by, one.reason)
        told = {"level": one.level, "cause": one.cause, "by": by, "reason": reason}
        whose = {"account": one.account, "owner_id": owners.get(one.account)}
        return told | {name: value for name, value in whose.items() if value}

    record_all(name, KillSwitch, ((one.pk, correlation.current(), data(one)) for one in switches))


@transaction.atomic
def release(*, by: str, reason: str, account: str | None = None) -> int:
    """A person releases every latched switch (or those of one `account`; empty: the platform's alone), with a reason;
    returns how many there were."""
    if not reason.strip():
        raise Rejected("releasing the kill switch needs a reason", code="reason_missing")
    standing = KillSwitch.objects.select_for_update().filter(released_at=None)
    if account is not None:
        standing = standing.filter(account=account)
    released = list(standing)
    for one in released:
        one.released_at, one.released_by, one.release_reason = clock.now(), by, reason
        one.save(update_fields=["released_at", "released_by", "release_reason"])
    _record("kill_switch.released", released)
    return len(released)
