"""The API under /api/notifications: notification settings, test messages, and the delivery log."""

from datetime import time
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, caller
from maxxit.access.models import RULES
from maxxit.access.permissions import needs
from maxxit.core.errors import Rejected
from maxxit.notify import kinds, preferences, trials
from maxxit.notify.models import NotificationSettings
from maxxit.reports import notifications
from maxxit.reports.schemas import Moment, Problem, State

router = Router(tags=["notifications"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}


class ChannelOut(Schema):
    """A channel; `address` is yours on it, null where it has none. Set it with PUT /api/market/endpoints."""

    channel: str
    title: str
    needs_address: bool
    address: str | None


class SettingsIn(Schema):
    """Kinds that are sent to your channels, and quiet hours in `time_zone`; null: none."""

    kinds: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=20)] = sorted(kinds.KINDS)
    quiet_from: time | None = None
    quiet_to: time | None = None
    time_zone: Annotated[str, Field(max_length=60)] = "UTC"


class SettingsOut(SettingsIn):
    """The settings, the kinds that there are with their meaning, and your channels."""

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
        "quiet_from": row.quiet_from,
        "quiet_to": row.quiet_to,
        "time_zone": row.time_zone,
        "known_kinds": {name: kind.title for name, kind in kinds.KINDS.items()},
        "channels": [
            {
                "channel": one.name,
                "title": one.title,
                "needs_address": one.field is not None,
                "address": one.endpoint.address if one.endpoint else None,
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
            person, payload.kinds, payload.quiet_from, payload.quiet_to, payload.time_zone
        )
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return _as_json(row, person)


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
