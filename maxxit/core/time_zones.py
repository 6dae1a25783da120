"""Time zones by the names of the IANA database."""

from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

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


def require_known(name: str) -> None:
    """Raise Rejected for a zone that this system does not know."""
    if not is_known(name):
        raise Rejected(f"no time zone {name!r}: choose one such as Europe/Berlin", code="time_zone")


def zone(name: str) -> ZoneInfo:
    """Return the zone; UTC for an empty name and for one that this system no longer knows."""
    try:
        return ZoneInfo(name or UTC)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(UTC)
