"""The execution gate: dry run, approval and kill switch decide whether orders may be sent to a venue.

An order is sent only if the venue's dry run is off AND an approval covers it AND no kill switch for the platform or
the account stops it. A gate that cannot be read is closed. No code that a language model can call changes the gate.
"""

import json
from collections import defaultdict
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
from trading.risk.checks import GateFacts
from trading.second_person import Kind, one_person, real_money_venues

APPROVAL_FILE = ROOT / ".tmp" / "APPROVE_EXECUTION"
"""If this file exists, every venue is approved (the approval file of AWET, the predecessor system). It names no person:
where approvals of real money need a second one, it covers the other venues only."""


NOT_REVOKED = """
    SELECT FROM execution_approvals a
    WHERE a.scope IN ({venue}, '*') AND a.revoked_at IS NULL AND a.approved_at <= %(now)s
      AND (a.expires_at > %(now)s OR NOT EXISTS (
          SELECT FROM execution_approvals r WHERE r.scope IN ({venue}, '*') AND r.revoked_at >= a.approved_at
      ))
"""
"""The approvals of a venue that let closing orders leave: one in force, or one that expired and was not followed by a
revocation."""

BY_FILE = "(%(approved_by_file)s AND {venue} <> ALL(%(file_leaves_out)s))"
"""Whether the approval file covers a venue."""

OPEN_VENUES = f"""
    SELECT g.venue FROM execution_gates g
    WHERE NOT g.dry_run AND ({BY_FILE.format(venue="g.venue")} OR EXISTS ({NOT_REVOKED.format(venue="g.venue")}))
"""  # noqa: S608 (constants only)
"""The venues that closing orders may be sent to. The kill switch and an expired approval stop entries only; dry run and
a revoked approval are an operator's decision and stop closing orders too. Parameters: `query_params()`."""


def query_params() -> dict[str, Any]:
    """Return the parameters of `OPEN_VENUES`: the time, whether the approval file exists, what it does not cover."""
    exists = APPROVAL_FILE.exists()
    left_out = [] if not exists or one_person(Kind.APPROVE_ORDERS) else real_money_venues()
    return {"now": clock.now(), "approved_by_file": exists, "file_leaves_out": left_out}


GATE = f"""
SELECT (SELECT dry_run FROM execution_gates WHERE venue = %(venue)s),
       {BY_FILE.format(venue="%(venue)s")} OR EXISTS (
           SELECT FROM execution_approvals
           WHERE scope IN (%(venue)s, '*') AND revoked_at IS NULL AND approved_at <= %(now)s AND expires_at > %(now)s
       ),
       EXISTS ({NOT_REVOKED.format(venue="%(venue)s")}),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(account, level)), '[]'::jsonb) FROM kill_switches
        WHERE released_at IS NULL AND account = ANY(%(accounts)s))::text
"""  # noqa: S608 (constants only)
"""Dry run (null without a row), approved, approved but for its expiry, and [account, level] of the latched switches."""


def read(venue: str, account: str = "") -> GateFacts:
    """Read the gate of `venue`, with the kill switches of the platform and of `account`.

    Call it in the transaction that reserves the order, and again right before anything is sent.
    """
    return read_many(venue, [account])[account]


def read_many(venue: str, accounts: Sequence[str]) -> dict[str, GateFacts]:
    """Return account -> what `read` returns, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(GATE, query_params() | {"venue": venue, "accounts": ["", *accounts]})
        dry_run, approved, not_revoked, switches = cursor.fetchone()
    levels: dict[str, list[str]] = defaultdict(list)
    for account, level in json.loads(switches):
        levels[account].append(level)
    return {
        account: GateFacts(
            dry_run=dry_run is None or dry_run,
            approved=approved,
            kill_level=max(levels[""] + levels[account], key=KILL_LEVELS.index, default=""),
            expired=not approved and not_revoked,
        )
        for account in accounts
    }


def is_approved(venue: str) -> bool:
    """Return whether an approval in force covers the venue, by row or by the approval file."""
    return read(venue).approved


def open_venues() -> list[str]:
    """Return the venues that closing orders may be sent to now."""
    with connection.cursor() as cursor:
        cursor.execute(OPEN_VENUES, query_params())
        return [venue for (venue,) in cursor.fetchall()]


def latched() -> QuerySet[KillSwitch]:
    """Return the kill switches in force: the platform's first, then the newest."""
    return KillSwitch.objects.filter(released_at=None).order_by(
        Case(When(account="", then=0), default=1), "-pk"
    )


def kill_level(account: str = "") -> str:
    """Return the strictest level latched for the platform or for `account`; empty for none."""
    standing = KillSwitch.objects.filter(released_at=None, account__in={"", account})
    return max(standing.values_list("level", flat=True), key=KILL_LEVELS.index, default="")


def lock() -> None:
    """Let one change of gates and approvals pass at a time, until the transaction ends. Reading them never waits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('execution gates', 0))")


@transaction.atomic
def set_dry_run(venue: str, dry_run: bool, *, by: str, reason: str) -> Gate:
    """Open (False) or close (True) the gate of one venue.

    People open it by `change_requests.ask`: a venue of real money may need a second person.
    """
    lock()
    now = clock.now()
    gate, _ = Gate.objects.update_or_create(
        venue=venue, defaults={"dry_run": dry_run, "changed_at": now, "changed_by": by, "reason": reason}
    )
    record("gate.closed" if dry_run else "gate.opened", gate, by=by, reason=reason)
    return gate


def check_end(until: datetime) -> None:
    """Raise Rejected where an approval until `until` would have ended already."""
    if until <= clock.now():
        raise Rejected(
            f"an approval must end in the future, not at {until:%Y-%m-%d %H:%M} UTC", code="already_expired"
        )


@transaction.atomic
def approve(scope: str, *, by: str, until: datetime, reason: str) -> Approval:
    """Approve that orders of `scope` (a venue, or * for all) are sent until `until`.

    People approve by `change_requests.ask`: a venue of real money may need a second person. Raises Rejected where
    `until` has passed.
    """
    lock()
    check_end(until)
    now = clock.now()
    approval = Approval.objects.create(
        scope=scope, approved_by=by, approved_at=now, expires_at=until, reason=reason
    )
    record("gate.approved", approval, scope=scope, by=by, until=until.isoformat(), reason=reason)
    return approval


@transaction.atomic
def revoke(scope: str, *, by: str, reason: str) -> int:
    """Revoke every approval of `scope` that is not revoked; return how many."""
    lock()
    standing = list(Approval.objects.select_for_update().filter(scope=scope, revoked_at=None))
    for approval in standing:
        approval.revoked_at = clock.now()
        approval.save(update_fields=["revoked_at"])
        record("gate.revoked", approval, scope=scope, by=by, reason=reason)
    return len(standing)


@transaction.atomic
def kill(level: str, *, by: str, reason: str, cause: str = "manual", account: str = "") -> KillSwitch:
    """Pull the kill switch of the platform or of one account. It stays latched until an operator releases it."""
    return kill_all([KillSwitch(level=level, cause=cause, account=account, reason=reason, pulled_by=by)])[0]


@transaction.atomic
def kill_all(switches: Sequence[KillSwitch]) -> list[KillSwitch]:
    """Pull many kill switches at once; return the stored rows.

    Each has level, cause, account, reason and `pulled_by` set. Raises Rejected for an unknown level.
    """
    for switch in switches:
        if switch.level not in KILL_LEVELS:
            raise Rejected(
                f"kill level {switch.level}: choose one of {', '.join(KILL_LEVELS)}", code="unknown_level"
            )
        switch.pulled_at = clock.now()
    pulled = KillSwitch.objects.bulk_create(switches)
    _record("kill_switch.pulled", pulled)
    return pulled


def _record(name: str, switches: Sequence[KillSwitch]) -> None:
    """Record an event per switch. One of an account carries the account and its owner, who is notified too."""
    accounts = {switch.account for switch in switches if switch.account}
    owned = Deployment.objects.filter(account__in=accounts).exclude(owner=None).order_by("pk")
    owners = dict(owned.values_list("account", "owner"))

    def data(switch: KillSwitch) -> dict[str, Any]:
        by, reason = switch.pulled_by, switch.reason
        if switch.released_at:
            by, reason = switch.released_by, switch.release_reason
        facts = {"level": switch.level, "cause": switch.cause, "by": by, "reason": reason}
        account = {"account": switch.account, "owner_id": owners.get(switch.account)}
        return facts | {name: value for name, value in account.items() if value}

    record_all(name, KillSwitch, ((switch.pk, correlation.current(), data(switch)) for switch in switches))


@transaction.atomic
def release(*, by: str, reason: str, account: str | None = None, cause: str | None = None) -> int:
    """Release latched kill switches; return how many.

    `account`: None for all, '' for the platform's alone, else those of one account. `cause`: only those of this cause.
    Raises Rejected without a reason.
    """
    if not reason.strip():
        raise Rejected("releasing the kill switch needs a reason", code="reason_missing")
    standing = KillSwitch.objects.select_for_update().filter(released_at=None)
    if account is not None:
        standing = standing.filter(account=account)
    if cause is not None:
        standing = standing.filter(cause=cause)
    released = list(standing)
    for switch in released:
        switch.released_at, switch.released_by, switch.release_reason = clock.now(), by, reason
        switch.save(update_fields=["released_at", "released_by", "release_reason"])
    _record("kill_switch.released", released)
    return len(released)
