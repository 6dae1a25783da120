"""What stopped a post, a signal or an order: the coded reason, what was measured, the limit, what to change."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import QuerySet

from maxxit.console import chain
from maxxit.console.owned import Person, visible
from maxxit.console.reasons import explain
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.events.record import subject
from signals_app.models import CtPost, Signal
from trading.models import Order
from trading.poison import TRIES


@dataclass(frozen=True)
class Stop:
    """One thing that stopped something."""

    what: str
    """The row: post 17, order 4 …, or the agent that declined."""
    code: str
    meaning: str
    measured: str
    limit: str
    change: str
    """The key of the configuration, or the command."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return asdict(self)


def _stop(what: str, code: str, measured: str = "", limit: str = "") -> Stop:
    meaning, change = explain(code)
    return Stop(what, code, meaning, measured, limit, change)


def why(what: str, value: str, person: Person = None) -> list[Stop]:
    """What stopped the post, signal or order; empty when nothing did. Raises Rejected for an unknown row."""
    rows: QuerySet[Any] = visible(chain.KINDS[what]._default_manager.all(), person)
    row = rows.filter(pk=value).first() if value.isdecimal() and len(value) < 19 else None
    if row is None and what == "post":
        row = rows.filter(post_id=value).first()
    if row is None:
        raise Rejected(
            f"no {what} {value!r}: look for it in the admin, or with `manage.py trades`", code="not_found"
        )
    return KINDS[what](row)


def of_post(post: CtPost) -> list[Stop]:
    """Its outcome, then what each agent said that declined it, then what stopped the orders it led to."""
    stops = []
    if post.state == "quarantined":
        change = f"`manage.py dlq redrive post:{post.pk}`"
        said = post.last_error.strip().splitlines() or [""]
        stops.append(Stop(f"post {post.pk}", "quarantined", said[-1], f"{post.attempts} tries", "", change))
    if post.outcome not in ("signal", "traded"):
        stops.append(_stop(f"post {post.pk}", post.outcome))
    for event in Event.objects.filter(subject=subject(post), name="signal.declined").order_by("pk"):
        told = event.data
        what = f"{told.get('agent')} on {told.get('token')}"
        stop = _stop(what, f"candidate:{told.get('reason')}", told.get("measured", ""), told.get("limit", ""))
        if stop not in stops:
            stops.append(stop)
    if post.outcome == "signal":
        for signal in post.signals.order_by("pk"):
            stops += of_signal(signal)
    return stops


def of_signal(signal: Signal) -> list[Stop]:
    """Why it was skipped or expired, and what stopped each of its orders."""
    stops = []
    if signal.reason:
        stops.append(_stop(f"signal {signal.pk}", signal.reason))
    for order in signal.orders.order_by("pk"):
        stops += of_order(order)
    return stops


def of_order(order: Order) -> list[Stop]:
    """The check that blocked it, or how it ended at the venue."""
    stops = []
    told = order.verdict
    if told or (order.reason and order.state != "filled"):
        code = order.reason or told.get("reason", "")
        stops.append(_stop(f"order {order.pk}", code, told.get("measured", ""), told.get("limit", "")))
    if order.attempts >= TRIES:
        change = f"`manage.py dlq redrive order:{order.pk}`"
        said = order.last_error.strip().splitlines() or [""]
        stops.append(
            Stop(f"order {order.pk}", "quarantined", said[-1], f"{order.attempts} tries", str(TRIES), change)
        )
    return stops


KINDS: dict[str, Callable[[Any], list[Stop]]] = {"post": of_post, "signal": of_signal, "order": of_order}
"""What may be asked about."""
