"""The master switch of the exits: off, no stop and no target is acted on until a person turns it on again.

For a market whose prices a person knows to be wrong although our checks do not. It never stops the kill
switch's flatten, nor closing by hand.
"""

from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events import wake
from maxxit.events.record import record
from positions.models import ExitPause


def standing() -> ExitPause | None:
    """The pause in force; None while exits are watched."""
    return ExitPause.objects.filter(resumed_at=None).first()


def pause(*, by: str, reason: str) -> ExitPause:
    """Stop acting on stops and targets. Raises Rejected without a reason, or when they are paused already."""
    if not reason.strip():
        raise Rejected("pausing the exits needs a reason", code="reason_missing")
    try:
        with transaction.atomic():
            made = ExitPause.objects.create(paused_at=clock.now(), paused_by=by, reason=reason)
            record("exits.paused", made, by=by, reason=reason)
    except IntegrityError:
        raise Rejected(f"{standing() or 'exits are paused'} already", code="already_paused") from None
    return made


@transaction.atomic
def resume(*, by: str, reason: str) -> bool:
    """Watch the exits again, at once; False when they were watched."""
    if not reason.strip():
        raise Rejected("resuming the exits needs a reason", code="reason_missing")
    ended = ExitPause.objects.select_for_update().filter(resumed_at=None).first()
    if ended is None:
        return False
    ended.resumed_at, ended.resumed_by = clock.now(), by
    ended.save(update_fields=["resumed_at", "resumed_by"])
    record("exits.resumed", ended, by=by, reason=reason)
    wake.after_commit("quotes.moved")  # what was reached meanwhile leaves now, not at the next sweep
    return True
