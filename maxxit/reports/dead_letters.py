"""Dead letters: rows whose step failed too often, set aside for a person with their error."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.market.models import RuleDelivery
from maxxit.market.states import DeliveryState
from maxxit.notify import worker as notify
from maxxit.notify.models import Alert
from signals_app import ingest
from signals_app.models import CtPost
from signals_app.states import PostState
from trading import quarantine
from trading.models import Order


@dataclass(frozen=True)
class Letter:
    """One of them."""

    name: str
    """post:17, order:4 or delivery:2."""
    at: datetime
    what: str
    attempts: int
    error: str

    @property
    def last_line(self) -> str:
        """What it came to."""
        return (self.error.strip().splitlines() or [""])[-1][:120]

    def as_json(self) -> dict[str, Any]:
        return self.__dict__ | {"at": iso_utc(self.at)}


def letters() -> list[Letter]:
    """All of them, posts first, the oldest first."""
    posts = CtPost.objects.filter(state=PostState.QUARANTINED).order_by("pk")
    orders = Order.objects.filter(attempts__gte=quarantine.TRIES).order_by("pk")
    untold = RuleDelivery.objects.filter(state=DeliveryState.DEAD).select_related("rule").order_by("pk")
    alerts = Alert.objects.filter(state=DeliveryState.DEAD).select_related("event").order_by("pk")
    return [
        *(
            Letter(f"post:{row.pk}", row.ingested_at, row.text[:60], row.attempts, row.last_error)
            for row in posts
        ),
        *(
            Letter(f"order:{row.pk}", row.updated_at, str(row), row.attempts, row.last_error)
            for row in orders
        ),
        *(
            Letter(f"delivery:{row.pk}", row.at, f"{row.rule} by {row.channel}", row.attempts, row.last_error)
            for row in untold
        ),
        *(Letter(f"alert:{row.pk}", row.at, str(row), row.attempts, row.last_error) for row in alerts),
    ]


def letter(name: str) -> Letter:
    """The one of that name. Raises Rejected when there is none."""
    for one in letters():
        if one.name == name:
            return one
    raise Rejected(f"no dead letter {name!r}: `manage.py dlq list` shows them", code="not_found")


def redrive(names: Sequence[str]) -> int:
    """Give those all their tries again; returns how many there were. Raises Rejected for a name that is none."""
    ids: dict[str, list[int]] = {"post": [], "order": [], "delivery": [], "alert": []}
    for name in names:
        kind, _, pk = name.partition(":")
        if kind not in ids or not pk.isdecimal():
            raise Rejected(
                f"{name!r} is no dead letter: they look like post:17, order:4, delivery:2 or alert:3",
                code="not_found",
            )
        ids[kind].append(int(pk))
    told = notify.redrive(RuleDelivery, ids["delivery"]) + notify.redrive(Alert, ids["alert"])
    return ingest.requeue(ids["post"]) + quarantine.redrive(ids["order"]) + told
