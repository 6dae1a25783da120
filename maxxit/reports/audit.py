"""Whether the audit log is sealed and its seals hold."""

from datetime import timedelta

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.events import seals
from maxxit.events.models import Event, EventSeal
from maxxit.events.record import NewEvent, write
from maxxit.reports.checks import Check

VERIFIED = "audit.verified"
NAME = "audit log"
SPAN = timedelta(days=35)
"""How far back the nightly verification goes."""
LATE = timedelta(hours=1)
"""Events of this age without a seal are a fault."""
FIX = "docs/security.md, Audit log: `manage.py audit verify` names the rows; compare them with a backup"


def check_seals() -> Check:
    """Check every seal against the rows; reads the whole log."""
    return _result(list(seals.verify()))


def verify_recent() -> bool:
    """Check the seals of the last 35 days and record the result; return whether all hold."""
    check = _result(list(seals.verify(clock.now() - SPAN)))
    write([NewEvent(VERIFIED, "audit", None, {"ok": check.ok, "detail": check.detail})])
    return check.ok


def check_audit_log() -> Check:
    """Check that new events get seals, and that the newest verification found no change."""
    newest = Event.objects.filter(name=VERIFIED).order_by("-at", "-id").first()
    if newest and not newest.data["ok"]:
        return Check(NAME, False, newest.data["detail"], FIX)
    sealed = EventSeal.objects.filter(log="events").order_by("id").last()
    if sealed is None:
        return Check(NAME, True, "no event is sealed yet")
    waiting = Event.objects.filter(pk__gt=sealed.last_id).order_by("id").values_list("at", flat=True).first()
    age = clock.now() - waiting if waiting else timedelta(0)
    if age > LATE:
        text = f"no event was sealed for {duration_text(age.total_seconds())}"
        return Check(NAME, False, text, "see the job audit_seal in `manage.py status`")
    return Check(NAME, True, f"sealed up to event {sealed.last_id}, head {sealed.head[:12]}…")


def _result(audits: list[seals.Audit]) -> Check:
    problems = [f"{one.log}: {text}" for one in audits for text in one.problems]
    if problems:
        return Check(NAME, False, "; ".join(problems)[:300], FIX)
    rows, count = sum(one.rows for one in audits), sum(one.seals for one in audits)
    return Check(NAME, True, f"{rows:,} rows in {count:,} seals are unchanged")
