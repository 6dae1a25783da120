"""A user's notification settings: kinds, quiet hours, and the time at which a message may be sent."""

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django.db import transaction

from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.notify import kinds
from maxxit.notify.models import NotificationSettings


def of(user: Any) -> NotificationSettings:
    """Return the settings of `user`, as they are without a row where there is none."""
    row = NotificationSettings.objects.filter(user_id=user.pk).first()
    return row or NotificationSettings(user=user, kinds=sorted(kinds.KINDS))


@transaction.atomic
def choose(
    user: Any, names: Iterable[str], quiet_from: time | None, quiet_to: time | None, time_zone: str
) -> NotificationSettings:
    """Store the kinds and the quiet hours of `user`.

    Raises:
        Rejected: an unknown kind or time zone, one end of the quiet hours without the other, or both the same.
    """
    if (quiet_from is None) != (quiet_to is None):
        raise Rejected("quiet hours need both a begin and an end: give both or neither", code="quiet_hours")
    if quiet_from is not None and quiet_from == quiet_to:
        raise Rejected(
            f"quiet hours from {quiet_from:%H:%M} to {quiet_from:%H:%M} have no length: choose another end",
            code="quiet_hours",
        )
    if time_zone not in available_timezones():
        raise Rejected(f"no time zone {time_zone!r}: choose one such as Europe/Berlin", code="time_zone")
    row, _ = NotificationSettings.objects.update_or_create(
        user_id=user.pk,
        defaults={
            "kinds": kinds.check(list(names)),
            "quiet_from": quiet_from,
            "quiet_to": quiet_to,
            "time_zone": time_zone,
        },
    )
    record("notifications.chosen", row, kinds=row.kinds, quiet=quiet_text(row))
    return row


def quiet_text(row: NotificationSettings) -> str:
    """Return the quiet hours in words: `22:00 to 07:00 Europe/Berlin`; empty without any."""
    if row.quiet_from is None or row.quiet_to is None:
        return ""
    return f"{row.quiet_from:%H:%M} to {row.quiet_to:%H:%M} {row.time_zone}"


def quiet_until(row: NotificationSettings | None, now: datetime) -> datetime | None:
    """Return the end of the quiet hours that `now` lies in; None outside of them.

    The hours are wall-clock time in the row's zone, may pass midnight, and follow its change of clocks.
    """
    if row is None or row.quiet_from is None or row.quiet_to is None:
        return None
    try:
        zone = ZoneInfo(row.time_zone)
    except (ZoneInfoNotFoundError, ValueError):  # a zone that this system no longer knows
        zone = ZoneInfo("UTC")
    local = now.astimezone(zone)
    at, begin, end = local.time(), row.quiet_from, row.quiet_to
    overnight = begin > end
    if not (at >= begin or at < end if overnight else begin <= at < end):
        return None
    day = local.date() + timedelta(days=1 if overnight and at >= begin else 0)
    until = datetime.combine(day, end, tzinfo=zone)
    return until if until > now else None  # an end that the change of clocks skipped has passed
