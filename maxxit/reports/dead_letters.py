"""Dead letters: posts, orders, deliveries, alerts and messages of listeners that used up their retries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maxxit.bus.listeners import work as listeners
from maxxit.bus.models import ListenerMessage
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.notify import worker as notify
from maxxit.notify.models import Alert, RuleDelivery
from maxxit.notify.states import DeliveryState
from signals_app import ingest
from signals_app.models import CtPost
from signals_app.states import PostState
from trading import quarantine
from trading.models import Order


@dataclass(frozen=True)
class DeadLetter:
    """A row that is retried no more until a person redrives it."""

    name: str
    """Such as `post:17`, `order:4`, `delivery:2`, `alert:3` or `message:7`."""
    at: datetime
    what: str
    attempts: int
    error: str

    @property
    def last_line(self) -> str:
        """The last line of the error, at most 120 characters."""
        return (self.error.strip().splitlines() or [""])[-1][:120]

    def as_json(self) -> dict[str, Any]:
        return self.__dict__ | {"at": iso_utc(self.at)}


def dead_letters() -> list[DeadLetter]:
    """List all dead letters: posts, orders, deliveries, alerts, messages; each kind oldest first."""
    posts = CtPost.objects.filter(state=PostState.QUARANTINED).order_by("pk")
    orders = Order.objects.filter(attempts__gte=quarantine.TRIES).order_by("pk")
    deliveries = RuleDelivery.objects.filter(state=DeliveryState.DEAD).select_related("rule").order_by("pk")
    alerts = Alert.objects.filter(state=DeliveryState.DEAD).select_related("event").order_by("pk")
    return [
        *(
            DeadLetter(f"post:{row.pk}", row.ingested_at, row.text[:60], row.attempts, row.last_error)
            for row in posts
        ),
        *(
            DeadLetter(f"order:{row.pk}", row.updated_at, str(row), row.attempts, row.last_error)
            for row in orders
        ),
        *(
            DeadLetter(
                f"delivery:{row.pk}", row.at, f"{row.rule} by {row.channel}", row.attempts, row.last_error
            )
            for row in deliveries
        ),
        *(DeadLetter(f"alert:{row.pk}", row.at, str(row), row.attempts, row.last_error) for row in alerts),
        *(
            DeadLetter(f"message:{row.pk}", row.dead_at, str(row), row.attempts, row.last_error)
            for row in ListenerMessage.objects.exclude(dead_at=None).order_by("pk")
            if row.dead_at
        ),
    ]


def numbers() -> dict[str, int]:
    """Return how many dead letters there are of each kind that has some."""
    counted = {
        "posts": CtPost.objects.filter(state=PostState.QUARANTINED).count(),
        "orders": Order.objects.filter(attempts__gte=quarantine.TRIES).count(),
        "deliveries": RuleDelivery.objects.filter(state=DeliveryState.DEAD).count(),
        "alerts": Alert.objects.filter(state=DeliveryState.DEAD).count(),
        "messages": ListenerMessage.objects.exclude(dead_at=None).count(),
    }
    return {kind: number for kind, number in counted.items() if number}


def dead_letter(name: str) -> DeadLetter:
    """Return the dead letter of that name. Raises Rejected when there is none."""
    for letter in dead_letters():
        if letter.name == name:
            return letter
    raise Rejected(f"no dead letter {name!r}: `manage.py dlq list` shows them", code="not_found")


def redrive(names: Sequence[str]) -> int:
    """Reset the attempts of the named dead letters; returns how many were redriven.

    Raises Rejected for a name that is not of the form `kind:number`.
    """
    ids: dict[str, list[int]] = {"post": [], "order": [], "delivery": [], "alert": [], "message": []}
    for name in names:
        kind, _, pk = name.partition(":")
        if kind not in ids or not pk.isdecimal():
            raise Rejected(
                f"{name!r} does not name a dead letter: give post:17, order:4, delivery:2, alert:3 or message:7",
                code="not_found",
            )
        ids[kind].append(int(pk))
    sent_again = notify.redrive(RuleDelivery, ids["delivery"]) + notify.redrive(Alert, ids["alert"])
    sent_again += listeners.redrive(ids["message"])
    return ingest.requeue(ids["post"]) + quarantine.redrive(ids["order"]) + sent_again
