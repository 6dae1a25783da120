"""Ask for changes that raise risk, and decide on them: a second person approves, refuses, or lets them expire.

Each change that is applied here has two logged-in people: the requester and another person, who approved it. The
command line and API keys identify nobody, so a request from there is first confirmed by a person who is logged in.
What only reduces risk applies at once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.events.record import advance, advance_all, record
from trading.models import ChangeRequest
from trading.operations.changes import CHANGES, Line, in_words
from trading.second_person import Kind, one_person, policy
from trading.states import RequestState

APPROVE = "trading.approve_changerequest"
"""The permission to approve and refuse; the group `risk officers` has it."""
SHORTEST_REASON, LONGEST_REASON = 3, 300
PAGE = "/admin/change-requests"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a change."""

    name: str
    """For the event log."""
    user: AbstractBaseUser | None = None
    """The person who is logged in; None for the command line and API keys, which identify nobody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a change that was asked for."""

    request: ChangeRequest | None
    """The request that waits for a second person; None where the change was applied at once."""
    result: Any = None
    """What applying it returned."""


@transaction.atomic
def ask(kind: Kind, content: Mapping[str, Any], *, by: Asker, reason: str) -> Asked:
    """Apply a change at once where it raises no risk or one person suffices; else store a request for it.

    Raises Rejected for an impossible change, no reason, or a request that asks the same and still waits.
    """
    change = CHANGES[kind]
    expire_due()
    change.lock(content)
    change.check(content)
    if not change.raises_risk(content):
        return Asked(None, change.apply(content, by=by.name, reason=reason))
    why = _reason(reason)
    row = _new(kind, content, by, why)
    what = in_words(lines_of(row))
    if decision := one_person(kind):
        row.save()
        _advance_approved(row, by.name, by.user, {"one_person": decision})
        result = change.apply(content, by=by.name, reason=why)
        advance(row, RequestState.APPLIED, data={"by": by.name, "what": what}, decision=decision)
        return Asked(None, result)
    before = ChangeRequest.objects.filter(sha256=row.sha256, state=RequestState.REQUESTED).first()
    if before is not None:
        raise Rejected(
            f"request {before.pk} of {before.asked_by} asks the same and waits: {PAGE}", code="already_asked"
        )
    row.save()
    record(
        "change_request.requested", row, kind=str(kind), what=what, by=by.name, reason=why, sha256=row.sha256,
        until=row.expires_at.isoformat(),
    )  # fmt: skip
    return Asked(row)


def _new(kind: Kind, content: Mapping[str, Any], by: Asker, reason: str) -> ChangeRequest:
    """Return a request that is not stored yet."""
    change, now = CHANGES[kind], clock.now()
    base, ends = change.base(content), change.ends_at(content)
    latest = now + timedelta(hours=policy().expires_after_hours)
    return ChangeRequest(
        kind=kind,
        content=dict(content),
        base=base,
        sha256=digest_of(kind, content, base),
        reason=reason,
        asked_by=by.name[:150],
        asked_user_id=by.user.pk if by.user else None,
        asked_at=now,
        expires_at=min(latest, ends) if ends else latest,
    )


def digest_of(kind: str, content: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a change in canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(
        {"kind": str(kind), "content": content, "base": base}, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def lines_of(row: ChangeRequest) -> list[Line]:
    """Return what a request changes, from and to, as it was asked for."""
    return CHANGES[Kind(row.kind)].lines(row.content, row.base)


def described(row: ChangeRequest) -> dict[str, Any]:
    """Return a request for JSON; times in UTC."""
    return {
        "id": row.pk,
        "kind": row.kind,
        "state": row.state,
        "changes": [{"what": line.what, "old": line.old, "new": line.new} for line in lines_of(row)],
        "reason": row.reason,
        "asked_by": row.asked_by,
        "confirmed": row.asked_user_id is not None,
        "asked_at": iso_utc(row.asked_at),
        "expires_at": iso_utc(row.expires_at),
        "decided_by": row.decided_by,
        "decided_at": iso_utc(row.decided_at) if row.decided_at else None,
        "decision": row.decision,
        "sha256": row.sha256,
    }


def open_requests() -> list[ChangeRequest]:
    """Return the requests that wait, the first to expire first."""
    waiting = ChangeRequest.objects.filter(state=RequestState.REQUESTED, expires_at__gt=clock.now())
    return list(waiting.order_by("expires_at", "pk"))


def may_approve(user: Any) -> bool:
    """Return whether this person may approve what others asked for."""
    return bool(user.is_active and user.is_staff and user.has_perm(APPROVE))


def approve(pk: int, *, user: Any, sha256: str) -> ChangeRequest:
    """Approve a request as the logged-in `user` and apply the change, in one transaction; return the row.

    A request that nobody identified has asked for is confirmed instead, and waits for another person. Approving again
    what this person has approved changes nothing.

    Args:
        sha256: of the change that this person saw.

    Raises:
        Rejected: the person may not, is the requester, saw another change, or the request is decided, expired or
            stale; also what the change itself raises. Nothing is applied then.
    """
    with transaction.atomic():
        row = _locked(pk)
        problem = _approve(row, user, sha256)
    if problem:
        raise problem
    return row


def _approve(row: ChangeRequest, user: Any, sha256: str) -> Rejected | None:
    """Decide on the locked row. A refusal that changes the row's state is returned, so that the state is stored."""
    change = CHANGES[Kind(row.kind)]
    confirms = row.asked_user_id is None
    if confirms:
        if not (user.is_active and user.is_staff and user.has_perm(change.permission)):
            raise Rejected(f"confirming this needs the permission {change.permission}", code="not_allowed")
    elif not may_approve(user):
        raise Rejected(f"approving needs a member of staff with the permission {APPROVE}", code="not_allowed")
    if row.state == RequestState.APPLIED and row.decided_user_id == user.pk:
        return None
    _check_open(row)
    if row.asked_user_id == user.pk:
        raise Rejected(
            f"you asked for request {row.pk} or confirmed it: another person has to approve it",
            code="same_person",
        )
    if sha256 != row.sha256 or digest_of(row.kind, row.content, row.base) != row.sha256:
        raise Rejected(
            f"request {row.pk} is not the change that was shown: load the page again", code="changed"
        )
    if _expire_if_due(row):
        return Rejected(f"request {row.pk} expired at {row.expires_at:%Y-%m-%d %H:%M} UTC", code="expired")
    change.lock(row.content)
    base = change.base(row.content)
    if base != row.base:
        now = in_words(change.lines(row.content, base)) or "it is set already"
        advance(row, RequestState.STALE, why=now, decided_at=clock.now(), decision=now[:LONGEST_REASON])
        return Rejected(
            f"request {row.pk} is stale: what it changes is not what it was. Now: {now}. Ask again",
            code="stale",
        )
    if confirms:
        row.asked_user = user
        row.asked_by = f"{row.asked_by}, confirmed by {user.get_username()}"[:150]
        row.save(update_fields=["asked_user", "asked_by"])
        record("change_request.confirmed", row, by=user.get_username(), sha256=row.sha256)
        return None
    change.check(row.content)
    name = user.get_username()
    _advance_approved(row, name, user, {})
    change.apply(row.content, by=f"{row.asked_by}, approved by {name}", reason=row.reason)
    what = in_words(change.lines(row.content, row.base))
    advance(row, RequestState.APPLIED, data={"by": name, "what": what, "asked_by": row.asked_by})
    return None


def _advance_approved(row: ChangeRequest, name: str, user: Any, data: dict[str, Any]) -> None:
    advance(
        row, RequestState.APPROVED, data={"by": name, "sha256": row.sha256} | data,
        decided_by=name[:150], decided_user=user, decided_at=clock.now(),
    )  # fmt: skip


def refuse(pk: int, *, by: str, reason: str, user: Any = None) -> ChangeRequest:
    """Refuse a request with a reason; `user` is the person who is logged in. Raises Rejected where it is decided."""
    return _end(pk, RequestState.REFUSED, by, _reason(reason), user=user)


def withdraw(pk: int, *, by: str, user: Any = None) -> ChangeRequest:
    """Withdraw a request. Raises Rejected where it is decided already, or `user` did not ask for it.

    Args:
        user: the person who is logged in; None on the command line, where who works on the machine may take back.
    """
    return _end(pk, RequestState.WITHDRAWN, by, "", user=user)


@transaction.atomic
def _end(pk: int, state: RequestState, by: str, why: str, user: Any = None) -> ChangeRequest:
    row = _locked(pk)
    _check_open(row)
    if state == RequestState.WITHDRAWN and user is not None and not may_withdraw(row, user):
        raise Rejected(f"request {pk} is of {row.asked_by}: refuse it instead", code="not_allowed")
    advance(
        row, state, why=why, data={"by": by}, decided_by=by[:150], decided_user=user, decided_at=clock.now(),
        decision=why,
    )  # fmt: skip
    return row


def may_withdraw(row: ChangeRequest, user: Any) -> bool:
    """Return whether this person asked for the request, or may ask for such changes where nobody identified asked."""
    if row.asked_user_id is not None:
        return bool(row.asked_user_id == user.pk)
    return bool(user.has_perm(CHANGES[Kind(row.kind)].permission))


def expire_due() -> int:
    """End the requests that nobody decided on in time; return how many."""
    now = clock.now()
    due = ChangeRequest.objects.filter(state=RequestState.REQUESTED, expires_at__lte=now).order_by("pk")
    ids = list(due.values_list("pk", flat=True))
    return len(advance_all(ChangeRequest, ids, RequestState.REQUESTED, RequestState.EXPIRED, decided_at=now))


def _expire_if_due(row: ChangeRequest) -> bool:
    if row.expires_at > clock.now():
        return False
    advance(row, RequestState.EXPIRED, decided_at=clock.now())
    return True


def find(pk: int) -> ChangeRequest:
    """Return a request. Raises Rejected where there is none."""
    row = ChangeRequest.objects.filter(pk=pk).first()
    if row is None:
        raise Rejected(f"no request {pk}: `manage.py approvals list` shows them", code="not_found")
    return row


def _locked(pk: int) -> ChangeRequest:
    row = ChangeRequest.objects.select_for_update().filter(pk=pk).first()
    if row is None:
        raise Rejected(f"no request {pk}: `manage.py approvals list` shows them", code="not_found")
    return row


def _check_open(row: ChangeRequest) -> None:
    if row.state != RequestState.REQUESTED:
        by = f" by {row.decided_by}" if row.decided_by else ""
        raise Rejected(f"request {row.pk} is {row.state}{by} already", code="already_decided")


def _reason(text: str) -> str:
    reason = text.strip()
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        raise Rejected(
            f"this needs a reason of {SHORTEST_REASON} to {LONGEST_REASON} characters", code="reason_missing"
        )
    return reason
