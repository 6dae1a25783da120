"""Invitations: single-use links with which a person creates an account."""

import secrets
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from maxxit.access.auth import hashed
from maxxit.access.models import Invitation
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record

MARK = "mxi_"
"""Prefix of every code, so that people, logs and secret scanners recognise it."""
DAYS = 7
"""Days until an invitation expires, unless another number is given."""
REFUSED = "This invitation is not valid: it was used, withdrawn or has expired. Ask for a new link."
"""One message for every reason, and for codes that never existed."""


@transaction.atomic
def create(*, expires_at: datetime, by: str, email: str = "") -> tuple[str, Invitation]:
    """Create an invitation; return its code, of which only the hash is stored, and its row."""
    code = MARK + secrets.token_urlsafe(32)
    row = Invitation.objects.create(
        email=email, sha256=hashed(code), created_at=clock.now(), created_by=by[:200], expires_at=expires_at
    )
    record("invitation.created", row, by=by, expires=f"{expires_at:%Y-%m-%d %H:%M}Z")
    return code, row


def path(code: str) -> str:
    """Return the path of the link, from the site's root."""
    return f"/sign-up?invitation={code}"


def is_open(code: str) -> bool:
    """Return whether an account can be created with this code."""
    row = Invitation.objects.filter(sha256=hashed(code)).first() if code else None
    return row is not None and row.standing == "open"


def use(code: str, user: AbstractBaseUser) -> None:
    """Mark the invitation as used by `user`, in the caller's transaction. Raises Rejected unless it is open."""
    row = Invitation.objects.select_for_update().filter(sha256=hashed(code)).first()
    if row is None or row.standing != "open":
        raise Rejected(REFUSED, code="invitation")
    row.used_at, row.used_by_id = clock.now(), user.pk
    row.save(update_fields=["used_at", "used_by"])
    record("invitation.used", row, by=user.get_username())


@transaction.atomic
def withdraw(ids: list[int], *, by: str) -> int:
    """Withdraw these invitations, as far as they are open; return how many."""
    rows = [
        row for row in Invitation.objects.select_for_update().filter(pk__in=ids) if row.standing == "open"
    ]
    for row in rows:
        row.withdrawn_at = clock.now()
        row.save(update_fields=["withdrawn_at"])
        record("invitation.withdrawn", row, by=by)
    return len(rows)
