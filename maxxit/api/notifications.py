"""The API under /api/notifications: notification settings, test messages, and the delivery log."""

from datetime import time
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, caller
from maxxit.access.models import RULES
from maxxit.access.permissions import needs
from maxxit.api.routing import Router
from maxxit.core.errors import Rejected
from maxxit.notify import endpoints, kinds, preferences, trials
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import NotificationSettings
from maxxit.reports import notifications
from maxxit.reports.schemas import Moment, Problem, State

router = Router(tags=["notifications"])
LOWEST = kinds.SEVERITIES[0]
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}


class ChannelOut(Schema):
    """A channel; `address` is the recognisable part of yours, null where it has none.

    Set it with PUT /api/market/endpoints. Where `confirmed` is false nothing is sent there until you give the code to
    POST /api/notifications/confirm.
    """

    channel: str
    title: str
    needs_address: bool
    address: str | None
    confirmed: bool


class CodeIn(Schema):
    """The code that was sent to your address on a channel."""

    channel: Annotated[str, Field(max_length=20)]
    code: Annotated[str, Field(max_length=20)]


Kinds = Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=20)]


class ChannelChoice(Schema):
    """What one channel gets: these kinds, from this severity on (info, warning, critical)."""

    kinds: Kinds = kinds.DEFAULT
    severity: Annotated[str, Field(max_length=10)] = LOWEST


class SnoozeIn(Schema):
    """For how many hours only critical messages are sent; 0 ends it."""

    hours: Annotated[int, Field(ge=0, le=preferences.MAX_SNOOZE_HOURS)]


class SettingsIn(Schema):
    """Kinds that are sent to your channels, and quiet hours in `time_zone`; null: none."""

    kinds: Kinds = kinds.DEFAULT
    by_channel: Annotated[dict[str, ChannelChoice], Field(max_length=20)] = {}
    """Channel -> its own choice in place of `kinds`."""
    fallback: Annotated[str, Field(max_length=20)] = ""
    """The channel of messages that another gave up."""
    quiet_from: time | None = None
    quiet_to: time | None = None
    time_zone: Annotated[str, Field(max_length=60)] = "UTC"


class SettingsOut(SettingsIn):
    """The settings, the kinds that there are with their meaning, and your channels."""

    snoozed_until: Moment | None
    known_kinds: dict[str, str]
    channels: list[ChannelOut]


class TestIn(Schema):
    """The channel to test."""

    channel: Annotated[str, Field(max_length=20)]


class LogEntryOut(Schema):
    """A message to you on one channel: PENDING, SENT or DEAD, with its last error."""

    id: str
    at: Moment
    what: str
    text: str
    channel: str
    state: State
    attempts: int
    due_at: Moment
    sent_at: Moment | None
    error: str


class LogOut(Schema):
    """A page of the delivery log, newest first. `next_before` is the `before` of the next page; null on the last."""

    items: list[LogEntryOut]
    next_before: str | None


class QueuedOut(Schema):
    """A test message that is on its way; the delivery log shows what becomes of it."""

    id: str
    channel: str
    text: str


def _as_json(row: NotificationSettings, person: Any) -> dict[str, Any]:
    return {
        "kinds": row.kinds,
        "by_channel": {name: {"kinds": row.kinds} | choice for name, choice in row.by_channel.items()},
        "fallback": row.fallback,
        "snoozed_until": preferences.snoozed(row),
        "quiet_from": row.quiet_from,
        "quiet_to": row.quiet_to,
        "time_zone": row.time_zone,
        "known_kinds": {name: kind.title for name, kind in kinds.KINDS.items()},
        "channels": [
            {
                "channel": one.name,
                "title": one.title,
                "needs_address": one.field is not None,
                "address": one.endpoint.hint if one.endpoint else None,
                "confirmed": one.usable,
            }
            for one in notifications.channels_of(person)
        ],
    }


@router.get("/settings", response={200: SettingsOut, **REFUSALS}, auth=READERS)
@needs("notify.view_notificationsettings")
def settings_get(request: HttpRequest) -> Any:
    """Return your notification settings and channels."""
    person: Any = caller(request).person
    return _as_json(preferences.of(person), person)


@router.put("/settings", response={200: SettingsOut, **REFUSALS})
@needs("notify.change_notificationsettings", scope=RULES)
def settings_put(request: HttpRequest, payload: SettingsIn) -> Any:
    """Set your notification settings; what is left out takes its default."""
    person: Any = caller(request).person
    try:
        row = preferences.choose(
            person,
            payload.kinds,
            payload.quiet_from,
            payload.quiet_to,
            payload.time_zone,
            by_channel={name: choice.model_dump() for name, choice in payload.by_channel.items()},
            fallback=payload.fallback,
        )
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return _as_json(row, person)


@router.put("/snooze", response={200: SettingsOut, **REFUSALS})
@needs("notify.change_notificationsettings", scope=RULES)
def snooze(request: HttpRequest, payload: SnoozeIn) -> Any:
    """Send only critical messages for some hours."""
    person: Any = caller(request).person
    return _as_json(preferences.snooze(person, payload.hours), person)


@router.post("/test", response={202: QueuedOut, **REFUSALS})
@needs("notify.change_endpoint", scope=RULES)
def test(request: HttpRequest, payload: TestIn) -> Any:
    """Send a test message to yourself on one channel."""
    person: Any = caller(request).person
    try:
        alert = trials.send_to_channel(person, payload.channel)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return Status(
        202, {"id": f"alert:{alert.pk}", "channel": alert.channel, "text": alert.event.data["text"]}
    )


@router.post("/confirm", response={200: ChannelOut, **REFUSALS})
@needs("notify.change_endpoint", scope=RULES)
def confirm(request: HttpRequest, payload: CodeIn) -> Any:
    """Confirm your address on a channel with the code that was sent there."""
    person: Any = caller(request).person
    try:
        endpoint = endpoints.confirm(person, payload.channel, payload.code)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return {
        "channel": endpoint.channel,
        "title": CHANNELS.open(endpoint.channel).title,
        "needs_address": True,
        "address": endpoint.hint,
        "confirmed": True,
    }


@router.get("/log", response={200: LogOut, **REFUSALS}, auth=READERS)
@needs("notify.view_ruledelivery")
def log(
    request: HttpRequest,
    limit: Annotated[int, Field(ge=1, le=notifications.MOST)] = notifications.PAGE,
    before: Annotated[str, Field(max_length=100)] = "",
) -> Any:
    """List the messages to you on every channel, newest first."""
    page = notifications.log_of(caller(request).person, before=before, limit=limit)
    return {"items": page.rows, "next_before": page.next_before or None}
