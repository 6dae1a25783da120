"""Entries that wait for their owner's confirmation: confirm, decline, and whether a deployment asks at all.

An entry waits because its deployment asks for each, or because its risk score is high: `pending_review`, the order's
`verdict`. It stays planned with the reason `awaiting_confirmation`, takes no place in the queue, and expires with its
signal as `not_confirmed`. A confirmed one passes every check like any other entry.
"""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.terms import Purpose
from maxxit.events import wake
from maxxit.events.record import advance, record, record_all
from trading.models import Order
from trading.reasons import Reason
from trading.states import OrderState


def waits(state: str, purpose: str, reason: str) -> bool:
    """Return whether an order waits for its owner's confirmation. Pure."""
    return state == OrderState.PLANNED and purpose == Purpose.OPEN and reason == Reason.AWAITING_CONFIRMATION


def cannot_answer(state: str, purpose: str, reason: str, expires_at: datetime | None, now: datetime) -> str:
    """Return why an owner cannot confirm or decline an order now, or an empty string. Pure."""
    if not waits(state, purpose, reason):
        return f"is {state}{f' ({reason})' if reason else ''} and waits for no confirmation"
    if expires_at is not None and expires_at <= now:
        return f"expired with its signal at {expires_at:%Y-%m-%d %H:%M} UTC"
    return ""


def confirm(order: Order, *, by: str) -> bool:
    """Say yes to a waiting entry, which is then placed as soon as the checks allow; return whether it was not before.

    Raises Rejected (`not_waiting`) for an order that waits for no confirmation, or whose signal has expired.
    """
    with transaction.atomic():
        locked = _locked(order)
        if locked.confirmed_at is not None:
            return False
        _require_answerable(locked)
        now = clock.now()
        Order.objects.filter(pk=locked.pk).update(confirmed_at=now, reason="", verdict={}, updated_at=now)
        record("order.confirmed", locked, by=by)
        wake.after_commit("orders.waiting")
    order.confirmed_at, order.reason, order.verdict = now, "", {}
    return True


def decline(order: Order, *, by: str) -> bool:
    """Say no to a waiting entry, which is blocked for good; return whether it was not before.

    Raises Rejected (`not_waiting`) for an order that waits for no confirmation, or whose signal has expired.
    """
    with transaction.atomic():
        locked = _locked(order)
        if locked.reason == Reason.DECLINED:
            return False
        _require_answerable(locked)
        verdict = {"reason": str(Reason.DECLINED), "measured": "", "limit": ""}
        advance(
            locked,
            OrderState.BLOCKED,
            why=Reason.DECLINED,
            data={"by": by},
            reason=Reason.DECLINED,
            verdict=verdict,
        )
        wake.after_commit("orders.waiting")  # its signal may be finished now
    order.refresh_from_db()
    return True


def ask(deployment: Deployment, on: bool, *, by: str) -> int:
    """Let a deployment's entries wait for confirmation, or no longer; return how many planned ones wait now.

    Entries that wait when it is switched off still want their answer: they were asked for.
    """
    with transaction.atomic():
        locked = Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
        if locked.confirm_entries != on:
            locked.confirm_entries = on
            locked.save(update_fields=["confirm_entries"])
            record("deployment.changed", locked, by=by, changes={"confirm_entries": [not on, on]})
    deployment.confirm_entries = on
    planned = Order.objects.filter(
        deployment=locked, state=OrderState.PLANNED, purpose=Purpose.OPEN, confirmed_at=None
    )
    if on:  # in a transaction of its own: placing locks orders before deployments
        with transaction.atomic():
            mark(list(planned.exclude(reason=Reason.AWAITING_CONFIRMATION).values_list("pk", flat=True)))
    return planned.filter(reason=Reason.AWAITING_CONFIRMATION).count()


ASKS = frozenset({Reason.AWAITING_CONFIRMATION, Reason.PENDING_REVIEW})
"""Reasons of a check that let an entry wait for its owner's yes."""


def mark(ids: list[int], reviews: Mapping[int, Mapping[str, str]] | None = None) -> None:
    """Let planned entries wait for their owners' yes, with an event for each. Call it in a transaction.

    Args:
        reviews: order -> the verdict `pending_review` on it, which is stored with the order and in its event.
    """
    if not ids:
        return
    rows = Order.objects.select_for_update(no_key=True).filter(
        pk__in=ids, state=OrderState.PLANNED, confirmed_at=None
    )
    asked = list(rows.order_by("pk").values_list("pk", "correlation_id", "deployment__owner_id"))
    Order.objects.filter(pk__in=[pk for pk, _, _ in asked]).update(
        reason=Reason.AWAITING_CONFIRMATION, updated_at=clock.now()
    )
    verdicts = {pk: dict(verdict) for pk, verdict in (reviews or {}).items()}
    for pk, _, _ in asked:
        if pk in verdicts:
            Order.objects.filter(pk=pk).update(verdict=verdicts[pk])
    record_all(
        "order.awaiting_confirmation",
        Order,
        (
            (pk, corr, ({"owner_id": owner} if owner else {}) | verdicts.get(pk, {}))
            for pk, corr, owner in asked
        ),
    )


def waiting(orders: QuerySet[Order]) -> QuerySet[Order]:
    """Return those of `orders` that wait for their owner's confirmation, the first to expire first.

    Entries of revoked deployments are left out: they are never placed.
    """
    rows = orders.filter(state=OrderState.PLANNED, purpose=Purpose.OPEN, reason=Reason.AWAITING_CONFIRMATION)
    rows = rows.exclude(deployment__state=DeploymentState.REVOKED)
    return rows.select_related("signal", "deployment__agent").order_by("signal__expires_at", "pk")


def _locked(order: Order) -> Order:
    rows = Order.objects.select_for_update(no_key=True, of=("self",)).select_related("signal")
    return rows.get(pk=order.pk)


def _require_answerable(order: Order) -> None:
    expires = order.signal.expires_at if order.signal else None
    if problem := cannot_answer(order.state, order.purpose, order.reason, expires, clock.now()):
        raise Rejected(f"order {order.pk} {problem}", code="not_waiting")
