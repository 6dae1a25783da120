"""A user's time zone."""

from typing import Any

from maxxit.access.models import UserSettings
from maxxit.core.time_zones import is_known, require_known


def choose(user: Any, name: str) -> None:
    """Store the zone in which the pages show times to `user`. Raises Rejected for an unknown one."""
    require_known(name)
    UserSettings.objects.update_or_create(user=user, defaults={"time_zone": name})


def learn(user: Any, name: str) -> None:
    """Store the browser's zone, unless `user` already has one or this system does not know it."""
    if name and is_known(name):
        row, _ = UserSettings.objects.get_or_create(user=user)
        UserSettings.objects.filter(pk=row.pk, time_zone="").update(time_zone=name)
