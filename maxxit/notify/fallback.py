"""The fallback channel: where a message goes that another channel of its user gave up."""

from collections.abc import Iterable

from maxxit.core import clock
from maxxit.events import wake
from maxxit.events.models import Event
from maxxit.events.record import subject
from maxxit.notify import kinds
from maxxit.notify.models import Alert, Delivery, Endpoint, NotificationSettings, RuleDelivery


def send(dead: Iterable[Delivery]) -> int:
    """Queue the messages of dead deliveries to the fallback channels of their users; return how many.

    A test message, a message of the fallback channel itself and one that is there already are left out.
    """
    now, count = clock.now(), 0
    for row in dead:
        chosen = (
            NotificationSettings.objects.filter(user_id=row.user_id)
            .values_list("fallback", flat=True)
            .first()
        )
        if not chosen or chosen == row.channel or not _usable(row.user_id, chosen):
            continue
        event = _event_of(row)
        if event is None or event.name in kinds.TESTS:
            continue
        _, created = Alert.objects.get_or_create(
            event=event, user_id=row.user_id, channel=chosen, defaults={"at": row.at, "due_at": now}
        )
        count += created
    if count:
        wake.after_commit("rule.matched")
    return count


def _usable(user_id: int, channel: str) -> bool:
    return Endpoint.objects.filter(
        user_id=user_id, channel=channel, active=True, verified_at__isnull=False
    ).exists()


def _event_of(row: Delivery) -> Event | None:
    if isinstance(row, Alert):
        return row.event
    if isinstance(row, RuleDelivery):
        return Event.objects.filter(name="rule.matched", subject=subject(row)).first()
    return None
