"""A user's notification settings: kinds, quiet hours, and the time at which a message may be sent."""

from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any

from django.db import transaction

from maxxit.core import clock, time_zones
from maxxit.core.errors import Rejected
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.notify import endpoints, kinds
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, NotificationSettings, RuleDelivery
from maxxit.notify.states import DeliveryState

MAX_SNOOZE_HOURS = 72


def of(user: Any) -> NotificationSettings:
    """Return the settings of `user`, as they are without a row where there is none."""
    row = NotificationSettings.objects.filter(user_id=user.pk).first()
    return row or NotificationSettings(user=user, kinds=kinds.DEFAULT)


@transaction.atomic
def choose(
    user: Any,
    names: Iterable[str],
    quiet_from: time | None,
    quiet_to: time | None,
    time_zone: str,
    *,
    by_channel: Mapping[str, Any] | None = None,
    fallback: str | None = None,
) -> NotificationSettings:
    """Store the kinds and the quiet hours of `user`; messages that the former quiet hours hold are due at once.

    A pass holds them again where the new hours say so.

    Args:
        names: kinds that every channel gets which `by_channel` does not name.
        quiet_from: wall-clock time in `time_zone`.
        by_channel: channel -> {"kinds": its kinds, "severity": the lowest that it gets}; None: as before.
        fallback: the channel of messages that another gave up; empty: none; None: as before.

    Raises:
        Rejected: an unknown kind, channel, severity or time zone, a fallback without an address, one end of the quiet
            hours without the other, both the same, or one with a UTC offset.
    """
    if (quiet_from is None) != (quiet_to is None):
        raise Rejected("quiet hours need both a begin and an end: give both or neither", code="quiet_hours")
    if quiet_from is not None and quiet_from == quiet_to:
        raise Rejected(
            f"quiet hours from {quiet_from:%H:%M} to {quiet_from:%H:%M} have no length: choose another end",
            code="quiet_hours",
        )
    for end in (quiet_from, quiet_to):
        if end is not None and end.tzinfo is not None:
            raise Rejected(
                f"quiet hours are local times without an offset, not {end.isoformat()}: "
                f"give {end:%H:%M} and a time zone",
                code="quiet_hours",
            )
    time_zones.require_known(time_zone)
    before = of(user)
    if fallback:
        endpoints.require(user, fallback)
    row, _ = NotificationSettings.objects.update_or_create(
        user_id=user.pk,
        defaults={
            "kinds": kinds.check(list(names)),
            "by_channel": before.by_channel if by_channel is None else _checked(by_channel),
            "fallback": before.fallback if fallback is None else fallback,
            "quiet_from": quiet_from,
            "quiet_to": quiet_to,
            "time_zone": time_zone,
        },
    )
    _release_held(before)
    record("notifications.chosen", row, kinds=row.kinds, quiet=quiet_text(row))
    return row


def _checked(by_channel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the choices for each channel as they are stored. Raises Rejected for one that cannot be."""
    checked = {}
    for channel, choice in by_channel.items():
        if channel not in CHANNELS.known or channel == "inbox":
            raise Rejected(f"nothing can be chosen for the channel {channel!r}", code="unknown_channel")
        severity = choice.get("severity", kinds.SEVERITIES[0])
        if severity not in kinds.SEVERITIES:
            raise Rejected(
                f"no severity {severity!r}; known: {', '.join(kinds.SEVERITIES)}", code="unknown_severity"
            )
        checked[channel] = {"severity": severity}
        if "kinds" in choice:
            checked[channel] |= {"kinds": kinds.check(list(choice["kinds"]))}
    return checked


@transaction.atomic
def end_kind(user: Any, channel: str, kind: str) -> None:
    """Send `user` no more of one kind on one channel; the other channels keep it."""
    row = NotificationSettings.objects.select_for_update().filter(user_id=user.pk).first()
    if row is None:
        return
    choice = row.by_channel.get(channel, {})
    left = [name for name in choice.get("kinds", row.kinds) if name != kind]
    row.by_channel = row.by_channel | {channel: {"severity": kinds.SEVERITIES[0]} | choice | {"kinds": left}}
    row.save(update_fields=["by_channel"])
    record("notifications.unsubscribed", row, channel=channel, kind=kind)


@transaction.atomic
def snooze(user: Any, hours: int) -> NotificationSettings:
    """Send `user` only critical messages for so many hours; 0 ends it. Raises Rejected beyond `MAX_SNOOZE_HOURS`."""
    if not 0 <= hours <= MAX_SNOOZE_HOURS:
        raise Rejected(f"snooze for 1 to {MAX_SNOOZE_HOURS} hours; 0 ends it", code="snooze")
    before = of(user)
    until = clock.now() + timedelta(hours=hours) if hours else None
    row, _ = NotificationSettings.objects.update_or_create(
        user_id=user.pk,
        defaults={"snoozed_until": until},
        create_defaults={"kinds": before.kinds, "snoozed_until": until},
    )
    _release_held(before)
    record("notifications.snoozed", row, hours=hours)
    return row


def _release_held(row: NotificationSettings) -> None:
    """Make messages due that the quiet hours or the snooze of `row` hold until their end."""
    now = clock.now()
    until = held_until(row, now)
    if until is None:
        return
    held = [
        model._default_manager.filter(user_id=row.user_id, state=DeliveryState.PENDING, due_at=until).update(
            due_at=now
        )
        for model in (Alert, RuleDelivery)
    ]
    if any(held):
        wake.after_commit("rule.matched")


def quiet_text(row: NotificationSettings) -> str:
    """Return the quiet hours in words: `22:00 to 07:00 Europe/Berlin`; empty without any."""
    if row.quiet_from is None or row.quiet_to is None:
        return ""
    return f"{row.quiet_from:%H:%M} to {row.quiet_to:%H:%M} {row.time_zone}"


def snoozed(row: NotificationSettings) -> datetime | None:
    """Return until when the user is snoozed; None when not."""
    return row.snoozed_until if row.snoozed_until and row.snoozed_until > clock.now() else None


def held_until(row: NotificationSettings | None, now: datetime) -> datetime | None:
    """Return when the quiet hours and the snooze that `now` lies in are over; None outside of both."""
    ends = [quiet_until(row, now), row.snoozed_until if row else None]
    return max((end for end in ends if end and end > now), default=None)


def quiet_until(row: NotificationSettings | None, now: datetime) -> datetime | None:
    """Return the end of the quiet hours that `now` lies in; None outside of them.

    The hours are wall-clock time in the row's zone, may pass midnight, and follow its change of clocks.
    """
    if row is None or row.quiet_from is None or row.quiet_to is None:
        return None
    zone = time_zones.zone(row.time_zone)
    local = now.astimezone(zone)
    at, begin, end = local.time(), row.quiet_from, row.quiet_to
    overnight = begin > end
    if not (at >= begin or at < end if overnight else begin <= at < end):
        return None
    day = local.date() + timedelta(days=1 if overnight and at >= begin else 0)
    until = datetime.combine(day, end, tzinfo=zone)
    return until if until > now else None  # an end that the change of clocks skipped has passed
