"""Alerts to staff when a check of the health page fails for a while, and when it passes again.

Feeds, models, jobs, queues and their workers, dead letters, deliveries, chain and books: what the page shows is told
once, as `check.failing`, and once more when it is over, as `check.recovered`.
"""

from datetime import timedelta

from django.core.cache import cache

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, write
from maxxit.reports.operators.health import read_health

FAILING, RECOVERED = "check.failing", "check.recovered"
PATIENCE = timedelta(minutes=2)
"""How long a check must have failed: a restart of a worker is no alert."""
KEPT = timedelta(days=30)
"""How far back an alert that is not over is looked for."""


def watch_health() -> list[str]:
    """Record the checks that began to fail or passed again; return their subjects.

    A check of a section that cannot be read now is neither.
    """
    now, news, told, passed, unread = clock.now(), [], _told(), set(), set()
    for section in read_health().sections:
        for check in section.checks:
            subject = f"health/{section.name}/{check.name}"[:80]
            if check.ok:
                cache.delete(_key(subject))
                passed.add(subject)
                continue
            if check.name == section.name.lower():
                unread.add(section.name)
            if subject in told:
                told.discard(subject)
                continue
            cache.add(_key(subject), now.timestamp(), timeout=PATIENCE.total_seconds() * 10)
            since = cache.get(_key(subject), now.timestamp())
            if now.timestamp() - since >= PATIENCE.total_seconds():
                news.append(
                    NewEvent(
                        FAILING,
                        subject,
                        None,
                        {"check": check.name, "detail": check.detail, "fix": check.fix},
                    )
                )
    for subject in sorted(told):
        if (
            subject in passed or subject.split("/")[1] not in unread
        ):  # some checks are there only while they fail
            cache.delete(_key(subject))
            news.append(NewEvent(RECOVERED, subject, None, {"check": subject.split("/", 2)[2]}))
    write(news)
    return [one.subject for one in news]


def _told() -> set[str]:
    """Return the subjects whose failure was told and is not over."""
    newest = (
        Event.objects.filter(name__in=(FAILING, RECOVERED), at__gt=clock.now() - KEPT)
        .order_by("subject", "-id")
        .distinct("subject")
    )
    return {event.subject for event in newest if event.name == FAILING}


def _key(subject: str) -> str:
    return f"health-watch:{subject}".replace(" ", "_")
