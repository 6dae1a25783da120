"""A user's time zone."""

from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from maxxit.access.models import UserSettings
from maxxit.core.errors import Rejected

UTC = "UTC"


@cache
def names() -> tuple[str, ...]:
    """Return the names that a user may choose, as in `Europe/Berlin`, UTC first."""
    named = (
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix/"))
    )
    return (UTC, *sorted(named))


def is_known(name: str) -> bool:
    """Return whether this system knows the zone, by any of its names."""
    return name in available_timezones()


def zone(name: str) -> ZoneInfo:
    """Return the zone; UTC for an empty name and for one that this system no longer knows."""
    try:
        return ZoneInfo(name or UTC)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(UTC)


def choose(user: Any, name: str) -> None:
    """Store the zone in which the pages show times to `user`. Raises Rejected for an unknown one."""
    if not is_known(name):
        raise Rejected(f"no time zone {name!r}: choose one such as Europe/Berlin", code="time_zone")
    UserSettings.objects.update_or_create(user=user, defaults={"time_zone": name})


def learn(user: Any, name: str) -> None:
    """Store the browser's zone, unless `user` already has one or this system does not know it."""
    if name and is_known(name):
        row, _ = UserSettings.objects.get_or_create(user=user)
        UserSettings.objects.filter(pk=row.pk, time_zone="").update(time_zone=name)
