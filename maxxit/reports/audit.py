"""Whether the audit log is sealed and its seals hold."""

from datetime import datetime, timedelta

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
VERIFIED_WITHIN = timedelta(hours=50)
"""A fault is a log that was not verified for two nights."""
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
    """Check that new events get seals, that the newest verification found no change, and that it is new enough."""
    newest = Event.objects.filter(name=VERIFIED).order_by("-at", "-id").first()
    if newest and not newest.data["ok"]:
        return Check(NAME, False, f"{newest.data['detail']}; found {_ago(newest.at)}", FIX)
    seals_of_events = EventSeal.objects.filter(log="events").order_by("id")
    first, sealed = seals_of_events.first(), seals_of_events.last()
    unsealed = Event.objects.filter(pk__gt=sealed.last_id if sealed else 0).order_by("id")
    waiting = unsealed.values_list("at", flat=True).first()
    if waiting and clock.now() - waiting > LATE:
        text = f"the oldest event without a seal was written {_ago(waiting)}"
        return Check(NAME, False, text, "see the job audit_seal in `manage.py status`")
    if first is None or sealed is None:
        return Check(NAME, True, "no event is sealed yet")
    verified = f"verified {_ago(newest.at)}" if newest else f"never verified, sealed since {_ago(first.at)}"
    if clock.now() - (newest or first).at > VERIFIED_WITHIN:
        return Check(NAME, False, verified, "see the job audit_verify in `manage.py status`")
    return Check(NAME, True, f"sealed up to event {sealed.last_id}, head {sealed.head[:12]}…; {verified}")


def _ago(moment: datetime) -> str:
    return f"{duration_text((clock.now() - moment).total_seconds())} ago"


def _result(audits: list[seals.Audit]) -> Check:
    problems = [f"{one.log}: {text}" for one in audits for text in one.problems]
    if problems:
        return Check(NAME, False, "; ".join(problems)[:300], FIX)
    rows, count = sum(one.rows for one in audits), sum(one.seals for one in audits)
    return Check(NAME, True, f"{rows:,} rows in {count:,} seals are unchanged")
