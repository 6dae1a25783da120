"""Warn staff before a trading approval expires and when it has: entries then stop, exits continue."""

from datetime import datetime, timedelta

from django.db import transaction

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading.models import Approval
from trading.passes import policy

LOOK_BACK = timedelta(days=1)
"""Approvals that expired longer ago are not reported."""
EXPIRED = "entries are stopped, exits continue"
EXPIRING = "then entries stop, exits continue"


def warn() -> int:
    """Record `approval.expiring` and `approval.expired` where they are due; return how many events.

    Each warning is recorded once per approval, and not at all while another approval of that scope lasts longer.
    """
    now = clock.now()
    soonest = timedelta(hours=max(policy().approval_warning_hours))
    expiring = Approval.objects.filter(
        revoked_at=None, expires_at__gt=now - LOOK_BACK, expires_at__lte=now + soonest
    )
    return sum(_warn_of(pk, now) for pk in expiring.order_by("pk").values_list("pk", flat=True))


@transaction.atomic
def _warn_of(pk: int, now: datetime) -> bool:
    """Record the warning that is due for one approval; return whether there was one. The row lock makes it once."""
    approval = Approval.objects.select_for_update().get(pk=pk)
    step = _step(approval, now)
    if not step or approval.revoked_at is not None or _is_covered(approval):
        return False
    name = "approval.expired" if step == "expired" else "approval.expiring"
    if Event.objects.filter(name=name, subject=subject(approval), data__step=step).exists():
        return False
    until = f"{approval.expires_at:%Y-%m-%d %H:%M} UTC"
    means = EXPIRED if step == "expired" else EXPIRING
    record(name, approval, step=step, scope=approval.scope, until=until, means=means)
    return True


def _step(approval: Approval, now: datetime) -> str:
    """Return the latest warning reached: "expired", "1 h", "24 h" or "".

    A warning time before the approval was given does not count.
    """
    if approval.expires_at <= now:
        return "expired"
    for hours in sorted(policy().approval_warning_hours):
        at = approval.expires_at - timedelta(hours=hours)
        if approval.approved_at < at <= now:
            return f"{hours} h"
    return ""


def _is_covered(approval: Approval) -> bool:
    """Return whether another approval of the same scope, or of all venues, lasts longer."""
    others = Approval.objects.filter(scope__in=(approval.scope, "*"), revoked_at=None)
    return others.filter(expires_at__gt=approval.expires_at).exists()
