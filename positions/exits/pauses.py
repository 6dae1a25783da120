"""Pause and resume the exits: while paused, no stop, target or time exit closes a position.

For a market whose prices an operator knows to be wrong although our price validation accepts them. A pause stops
neither the kill switch's flatten nor manual closing.
"""

from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events import wake
from maxxit.events.record import record
from positions.models import ExitPause


def current_pause() -> ExitPause | None:
    """Return the pause in force; None while exits are active."""
    return ExitPause.objects.filter(resumed_at=None).first()


def pause(*, by: str, reason: str) -> ExitPause:
    """Pause the exits. Raises Rejected without a reason, or if they are paused already."""
    if not reason.strip():
        raise Rejected("pausing the exits needs a reason", code="reason_missing")
    try:
        with transaction.atomic():
            row = ExitPause.objects.create(paused_at=clock.now(), paused_by=by, reason=reason)
            record("exits.paused", row, by=by, reason=reason)
    except IntegrityError:
        raise Rejected(f"{current_pause() or 'exits are paused'} already", code="already_paused") from None
    return row


@transaction.atomic
def resume(*, by: str, reason: str) -> bool:
    """Resume the exits and wake the sweep; return False if they were not paused. Raises Rejected without a reason."""
    if not reason.strip():
        raise Rejected("resuming the exits needs a reason", code="reason_missing")
    row = ExitPause.objects.select_for_update().filter(resumed_at=None).first()
    if row is None:
        return False
    row.resumed_at, row.resumed_by = clock.now(), by
    row.save(update_fields=["resumed_at", "resumed_by"])
    record("exits.resumed", row, by=by, reason=reason)
    wake.after_commit("quotes.moved")  # exits reached meanwhile are closed now, not at the next sweep
    return True
