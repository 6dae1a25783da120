"""The delivery log of a user: alerts and matches of price rules on every channel, newest first, in pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.db.models import Q, QuerySet

from maxxit.core.errors import Rejected
from maxxit.notify import alerts, endpoints, worker
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, Delivery, Endpoint, PriceRule, RuleDelivery
from maxxit.notify.states import DeliveryState

MODELS: tuple[tuple[str, type[Delivery], tuple[str, ...]], ...] = (
    ("alert", Alert, ("event", "user")),
    ("rule", RuleDelivery, ("rule", "match")),
)
"""(letter of the cursor, model, related rows), in the order of rows of the same time."""
PAGE = 25
MOST = 100
RULES = 100
"""Price rules that the page lists; the platform allows fewer to be active."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One message to the user on one channel."""

    id: str
    """`alert:5` or `rule:5`."""
    at: datetime
    what: str
    """The kind of the message in words."""
    text: str
    channel: str
    state: str
    """pending, sent or dead."""
    attempts: int
    due_at: datetime
    """The next try of a pending one."""
    sent_at: datetime | None
    error: str

    @property
    def cursor(self) -> str:
        """Return the `before` of the rows after this one."""
        return f"{self.at.isoformat()}|{self.id}"


@dataclass(frozen=True)
class LogPage:
    """Rows, and the cursor of the next page; empty on the last one."""

    rows: list[LogEntry]
    next_before: str


@dataclass(frozen=True, slots=True)
class _Cursor:
    at: datetime
    place: int
    pk: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor. Raises Rejected for a text that is none."""
        try:
            at, _, ident = text.partition("|")
            kind, _, pk = ident.partition(":")
            place = [name for name, *_ in MODELS].index(kind)
            moment = datetime.fromisoformat(at)
            if moment.tzinfo is None or not 0 <= int(pk) < 2**63:
                raise ValueError
            return cls(moment, place, int(pk))
        except ValueError:
            raise Rejected(
                f"before: {text[:60]!r} is no cursor of this list; take `next_before` of a page",
                code="invalid",
            ) from None


def log_of(user: Any, *, before: str = "", limit: int = PAGE) -> LogPage:
    """Return a page of the deliveries of `user`, in two statements. Raises Rejected for a wrong cursor."""
    cursor = _Cursor.parse(before) if before else None
    size = min(limit, MOST)
    merged: list[tuple[datetime, int, int, LogEntry]] = []
    for place, (name, model, related) in enumerate(MODELS):
        rows: QuerySet[Any] = model._default_manager.filter(user_id=user.pk).select_related(*related)
        if cursor is not None:
            rows = rows.filter(_older(cursor, place))
        for row in rows.order_by("-at", "-pk")[: size + 1]:
            merged.append((row.at, place, row.pk, _entry(name, row)))
    merged.sort(key=lambda item: item[:3], reverse=True)
    page = [entry for *_, entry in merged[:size]]
    return LogPage(page, page[-1].cursor if len(merged) > size else "")


def _older(cursor: _Cursor, place: int) -> Q:
    older = Q(at__lt=cursor.at)
    if place < cursor.place:
        return older | Q(at=cursor.at)
    return older | Q(at=cursor.at, pk__lt=cursor.pk) if place == cursor.place else older


def _entry(name: str, row: Any) -> LogEntry:
    return LogEntry(
        id=f"{name}:{row.pk}",
        at=row.at,
        what="Price rule" if isinstance(row, RuleDelivery) else alerts.title_of(row.event.name),
        text=worker.text_of(row),
        channel=row.channel,
        state=row.state,
        attempts=row.attempts,
        due_at=row.due_at,
        sent_at=row.sent_at,
        error=row.last_error.strip(),
    )


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel, with the address of a user on it."""

    name: str
    title: str
    about: str
    field: Any
    """How an address is named (`channels.base.AddressField`); None where the channel needs none."""
    offered: bool
    endpoint: Endpoint | None

    @property
    def usable(self) -> bool:
        """Return whether messages can go there now."""
        return self.field is None or (self.endpoint is not None and self.endpoint.verified_at is not None)

    @property
    def waits_for_code(self) -> bool:
        """Return whether the address must be confirmed."""
        return self.endpoint is not None and self.endpoint.verified_at is None


def channels_of(user: Any) -> list[ChannelState]:
    """List the channels that are offered, and those of which `user` has set an address."""
    standing = {row.channel: row for row in Endpoint.objects.filter(user_id=user.pk, active=True)}
    offered = endpoints.offered()
    opened = [(name, CHANNELS.open(name)) for name in CHANNELS]
    return [
        ChannelState(name, one.title, one.about, one.form, name in offered, standing.get(name))
        for name, one in opened
        if name in offered or name in standing
    ]


def rules_of(user: Any) -> list[PriceRule]:
    """List the active and paused price rules of `user`, newest first, at most `RULES`."""
    return list(
        PriceRule.objects.filter(user_id=user.pk, removed_at=None)
        .select_related("user")
        .order_by("-pk")[:RULES]
    )


def under_way(page: LogPage) -> bool:
    """Return whether a message of the page is still to be sent."""
    return any(row.state == DeliveryState.PENDING for row in page.rows)
