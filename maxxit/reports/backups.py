"""Backups and their drills as the event log has them: every process can see them, also without the folder."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.events.models import Event
from maxxit.reports.backup_policy import policy
from maxxit.reports.checks import Check

MADE, FAILED, DRILLED, RESTORED = "backup.made", "backup.failed", "backup.drilled", "backup.restored"
MAKE_FIX = "docs/backups.md, Set up; `manage.py backup` makes one now"
DRILL_FIX = "`manage.py backup drill` shows each check; keep the older backups until one passes"


def check_backups() -> Iterator[Check]:
    """Check that the newest backup is new enough, and that the newest drill passed and is new enough.

    Outside production a machine that never tried to make one is no fault.
    """
    made, failed = _newest(MADE), _newest(FAILED)
    age = clock.now() - made.at if made else timedelta(0)
    found = (
        f"{made.subject.removeprefix('backup/')}, {duration_text(age.total_seconds())} ago" if made else ""
    )
    if failed and (made is None or failed.pk > made.pk):
        detail = f"the newest try failed: {failed.data['error']}; the newest backup: {found or 'none'}"
        yield Check("backup", False, detail[:300], MAKE_FIX)
    elif made is None:
        detail = "no backup was ever made" + ("" if settings.PRODUCTION else ": docs/backups.md")
        yield Check("backup", not settings.PRODUCTION, detail, MAKE_FIX if settings.PRODUCTION else "")
    else:
        ok = age <= timedelta(hours=policy().max_age_hours)
        yield Check("backup", ok, found, "" if ok else MAKE_FIX)
    if made:
        yield _drill()


def _drill() -> Check:
    limit = timedelta(days=policy().drill_max_age_days)
    drilled, now = _newest(DRILLED), clock.now()
    if drilled is None:
        first = Event.objects.filter(name=MADE).earliest("id")
        ok = now - first.at <= limit
        return Check("backup drill", ok, "no backup was restored yet", "" if ok else DRILL_FIX)
    ok = bool(drilled.data["ok"]) and now - drilled.at <= limit
    age = duration_text((now - drilled.at).total_seconds())
    result = (
        f"restored and checked in {drilled.data['seconds']} s" if drilled.data["ok"] else "did not pass: "
    )
    detail = f"{drilled.subject.removeprefix('backup/')} {result}{drilled.data['problem']}, {age} ago"
    return Check("backup drill", ok, detail[:300], "" if ok else DRILL_FIX)


def _newest(name: str) -> Event | None:
    return Event.objects.filter(name=name).order_by("-at", "-id").first()
