"""Charge subscriptions: one billing event per deployment and month, booked as a debt to the platform.

A month counts from the end of the trial, which begins when the deployment is first activated: a deployment that was
activated on 10 March with 14 days of trial is charged on 24 March, 24 April and so on. Each month that begins while
the deployment is active is charged in full, in advance; one that begins while it is paused or revoked is free. A month
that began longer ago than `LOOK_BACK` is not charged any more.

Crash-safe: the events are written first, each is then charged in a transaction of its own, and both the event and its
journal are unique. A charge that fails stops no other one, alerts staff, and is tried again by the next run.
"""

import calendar
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import connection, transaction
from django.db.models import Max, QuerySet

from agents.fee_terms import FIELDS
from agents.fees import Subscription
from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.core.money import plain
from maxxit.events.models import Event
from maxxit.events.record import advance, record, subject
from trading import ledger, quarantine
from trading.billing.models import BillingEvent, BillingKind
from trading.billing.states import UNCHARGED, BillingState
from trading.billing.terms import read_terms
from trading.models import JournalKind
from trading.passes import ends_the_pass
from trading.risk.limits_in_force import protective_limits

log = structlog.get_logger(__name__)

LOOK_BACK = timedelta(days=35)
BATCH = 1_000
"""Deployments whose months are looked up together."""
STATES = """
SELECT split_part(subject, '/', 2)::bigint, substr(name, 12), at FROM events
WHERE subject = ANY(%(subjects)s) AND name = ANY(%(names)s)
ORDER BY at, id
"""
STATE_EVENTS = [f"deployment.{state}" for state in DeploymentState]
MAX_REASON = 300
FAILED = "billing.failed"


@dataclass(frozen=True, slots=True)
class Billed:
    """What one run did."""

    due: int
    """New events."""
    charged: int
    failed: int


def bill() -> Billed:
    """Write an event for each month that has begun, and charge every event that is due or failed before."""
    # The owners of a Safe have signed which fees are taken: a subscription is none of them.
    started = Deployment.objects.exclude(state=DeploymentState.DRAFT).filter(safe_wallet="")
    subscribed = started.exclude(**{f"agent__{FIELDS['month']}": ""})
    ids = list(subscribed.order_by("pk").values_list("pk", flat=True))
    due = 0
    for start in range(0, len(ids), BATCH):
        due += len(quarantine.by_halves(ids[start : start + BATCH], _write_due, _not_billed))
    charged = failed = 0
    for pk in list(
        BillingEvent.objects.filter(state__in=UNCHARGED).order_by("pk").values_list("pk", flat=True)
    ):
        if charge(pk):
            charged += 1
        else:
            failed += 1
    return Billed(due, charged, failed)


def _not_billed(deployment: int, error: Exception) -> None:
    log.error("deployment_not_billed", deployment=deployment, error=f"{type(error).__name__}: {error}")


@transaction.atomic
def _write_due(ids: Sequence[int]) -> list[BillingEvent]:
    """Write the missing events of these deployments and return them. No day is charged twice, whatever the rule was."""
    terms, now = read_terms(ids, protective_limits().fees), clock.now()
    histories = _histories(ids)
    events = [
        BillingEvent(
            deployment_id=pk,
            kind=BillingKind.SUBSCRIPTION,
            reference=f"{start:%Y-%m-%d}",
            period_start=start,
            period_end=end,
            amount=rule.charge(Decimal(1)),
            created_at=now,
        )
        for pk in ids
        if (rule := terms[pk].month) and rule.monthly_usdc
        for start, end in months_begun(rule, histories[pk], now)
    ]
    billed = BillingEvent.objects.filter(deployment__in=ids, kind=BillingKind.SUBSCRIPTION).order_by()
    billed_until = dict(billed.values_list("deployment_id").annotate(Max("period_end")))
    new = [
        event
        for event in events
        if event.period_start >= billed_until.get(event.deployment_id, event.period_start)
    ]
    BillingEvent.objects.bulk_create(new, ignore_conflicts=True)
    return new


History = Sequence[tuple[datetime, str]]
"""(time, state that the deployment was then moved to), in order of time."""


def _histories(ids: Sequence[int]) -> Mapping[int, History]:
    """Return the states of deployments over time, from their events; without any, the present state since creation."""
    moves: dict[int, list[tuple[datetime, str]]] = defaultdict(list)
    with connection.cursor() as cursor:
        subjects = [f"{Deployment._meta.label_lower}/{pk}" for pk in ids]
        cursor.execute(STATES, {"subjects": subjects, "names": STATE_EVENTS})
        for pk, state, at in cursor.fetchall():
            moves[pk].append((at, state))
    without = Deployment.objects.filter(pk__in=set(ids) - set(moves))
    for pk, state, at in without.values_list("pk", "state", "created_at"):
        moves[pk].append((at, state))
    return moves


def months_begun(rule: Subscription, history: History, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield (begin, end) of each month that is charged: begun by `now`, after the trial, while the state was active."""
    activated = next((at for at, state in history if state == DeploymentState.ACTIVE), None)
    if activated is None:
        return
    first, number = activated + timedelta(days=rule.trial_days), 0
    while (start := add_months(first, number)) <= now:
        number += 1
        state = [state for at, state in history if at <= start][-1]
        if state == DeploymentState.ACTIVE and start > now - LOOK_BACK:
            yield start, add_months(first, number)


def add_months(at: datetime, months: int) -> datetime:
    """Return the same day and time some months later, or the last day of a month that is shorter."""
    years, month = divmod(at.month - 1 + months, 12)
    year = at.year + years
    return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))


def charge(event_id: int) -> bool:
    """Book one event as a debt, once; on an error mark it failed, which alerts staff. Return whether it is charged."""
    try:
        with transaction.atomic():
            event = BillingEvent.objects.select_for_update().get(pk=event_id)
            if event.state not in UNCHARGED:
                return event.state == BillingState.CHARGED
            ledger.book_subscription(event.deployment_id, event.reference, event.amount)
            advance(
                event,
                BillingState.CHARGED,
                data=_data(event),
                journal=f"{JournalKind.SUBSCRIPTION}:{event.deployment_id}:{event.reference}",
                charged_at=clock.now(),
                reason="",
            )
        return True
    except Exception as error:  # one deployment must not stop the others
        if ends_the_pass(error):
            raise
        log.exception("charge_failed", billing_event=event_id)
        _note_failure(
            event_id, str(error) if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}"
        )
        return False


@transaction.atomic
def _note_failure(event_id: int, why: str) -> None:
    """Mark an event failed; one that failed before alerts again, once a day."""
    event, reason = BillingEvent.objects.select_for_update().get(pk=event_id), why[:MAX_REASON]
    if event.state == BillingState.DUE:
        advance(event, BillingState.FAILED, why=reason, data=_data(event), reason=reason)
    elif event.state == BillingState.FAILED:
        BillingEvent.objects.filter(pk=event_id).update(reason=reason)
        since = clock.now() - timedelta(days=1)
        if not Event.objects.filter(name=FAILED, subject=subject(event), at__gt=since).exists():
            record(FAILED, event, why=reason, **_data(event))


@transaction.atomic
def waive(event_id: int, *, by: str, reason: str) -> BillingEvent:
    """Charge an event that is due or failed never; return it. Raises Rejected for another state or no such event."""
    event = BillingEvent.objects.select_for_update().filter(pk=event_id).first()
    if event is None:
        raise Rejected(
            f"there is no billing event {event_id}: `manage.py billing list` shows them", code="unknown"
        )
    if event.state not in UNCHARGED:
        raise Rejected(
            f"billing event {event_id} is {event.state.upper()}: only one that is DUE or FAILED can be waived",
            code="not_waivable",
        )
    advance(
        event, BillingState.WAIVED, why=reason, data=_data(event) | {"by": by}, reason=reason[:MAX_REASON]
    )
    return event


def _data(event: BillingEvent) -> dict[str, str]:
    return {
        "deployment": str(event.deployment_id),
        "kind": event.kind,
        "amount": f"{plain(event.amount)} USDC",
        "month_from": f"{event.period_start:%Y-%m-%d}",
    }


def failed() -> QuerySet[BillingEvent]:
    """Select the events whose charge failed, oldest first."""
    return BillingEvent.objects.filter(state=BillingState.FAILED).order_by("pk")
