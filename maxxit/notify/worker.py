"""Deliveries that are due are claimed, sent, and then sent, due again later, or dead.

A claim moves `due_at` ahead by `claim_seconds`, so a worker that dies leaves its deliveries to the next sweep and two
workers never hold the same one. What was sent just before a death is sent again: a receiver drops repetitions by the
delivery's id.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import structlog
from django.db import connection
from pydantic import Field

from maxxit.core import clock, redact
from maxxit.core.config import Policy, Seconds, load
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable, StaleState
from maxxit.core.money import plain
from maxxit.events.record import advance, advance_all
from maxxit.market.models import Delivery, RuleDelivery
from maxxit.market.states import DeliveryState
from maxxit.notify import alerts, endpoints
from maxxit.notify.channels import CHANNELS
from maxxit.notify.channels.base import Message
from maxxit.notify.models import Alert

log = structlog.get_logger(__name__)


class NotifyPolicy(Policy):
    """`config/notify.yaml`."""

    tries: Annotated[int, Field(ge=1, le=50)]
    first_wait_seconds: Seconds
    most_wait_seconds: Seconds
    claim_seconds: Seconds
    at_a_time: Annotated[int, Field(ge=1, le=1000)]
    per_minute: Annotated[int, Field(ge=1, le=10_000)]


@dataclass
class Told:
    """What a pass did."""

    sent: int = 0
    later: int = 0
    dead: int = 0


def policy() -> NotifyPolicy:
    """`config/notify.yaml`."""
    return load("notify", NotifyPolicy)


CLAIM = """
WITH busy AS (
    SELECT user_id, channel, count(*) AS sent FROM {table}
    WHERE state = 'sent' AND sent_at > %(now)s - interval '1 minute' GROUP BY 1, 2
), due AS (
    SELECT d.id, row_number() OVER (PARTITION BY d.user_id, d.channel ORDER BY d.id) + coalesce(b.sent, 0) AS place
    FROM {table} d LEFT JOIN busy b ON b.user_id = d.user_id AND b.channel = d.channel
    WHERE d.state = 'pending' AND d.due_at <= %(now)s
), mine AS (
    SELECT d.id FROM {table} d JOIN due USING (id)
    WHERE d.state = 'pending' AND d.due_at <= %(now)s AND (due.place <= %(per_minute)s OR d.channel = 'inbox')
    ORDER BY d.id LIMIT %(most)s FOR UPDATE OF d SKIP LOCKED
)
UPDATE {table} AS d SET attempts = attempts + 1, due_at = %(until)s FROM mine
WHERE d.id = mine.id RETURNING d.id
"""


def deliver() -> Told:
    """One pass: every delivery that is due now, each person no oftener than `per_minute` a channel."""
    rules, done = policy(), Told()
    alerts.write()
    for model, related in KINDS:
        while ids := _claim(model, rules):
            rows = model._default_manager.filter(pk__in=ids).select_related("user", *related)
            for row in rows.order_by("pk"):
                try:
                    _one(row, rules, done)
                except StaleState:
                    log.info("delivery_already_moved", delivery=str(row))
    return done


KINDS: tuple[tuple[type[Delivery], tuple[str, ...]], ...] = (
    (Alert, ("event",)),
    (RuleDelivery, ("rule", "match")),
)
"""What is delivered, the more urgent first, with the rows that its messages need."""


def _claim(model: type[Delivery], rules: NotifyPolicy) -> list[int]:
    now = clock.now()
    values: dict[str, Any] = {
        "now": now,
        "until": now + timedelta(seconds=rules.claim_seconds),
        "most": rules.at_a_time,
        "per_minute": rules.per_minute,
    }
    with connection.cursor() as cursor:
        cursor.execute(CLAIM.format(table=model._meta.db_table), values)
        return [pk for (pk,) in cursor]


def _one(row: Delivery, rules: NotifyPolicy, done: Told) -> None:
    if row.attempts > rules.tries:  # each try ended with its worker: it is not tried for ever
        _bury(row, Rejected("the worker ended while it was sending"), done)
        return
    try:
        CHANNELS.open(row.channel).send(message_of(row))
    except (Rejected, Misconfigured) as error:
        _bury(row, error, done)
    except Exception as error:  # also a bug in one channel: it must not hold up the others
        if row.attempts >= rules.tries:
            _bury(row, error, done)
            return
        after = error.after if isinstance(error, Retryable) else None
        wait = min(after or rules.first_wait_seconds * 2 ** (row.attempts - 1), rules.most_wait_seconds)
        due = clock.now() + timedelta(seconds=wait)
        type(row)._default_manager.filter(pk=row.pk, state=DeliveryState.PENDING).update(
            due_at=due, last_error=_said(error)
        )
        done.later += 1
        log.warning(
            "not_told", delivery=str(row), channel=row.channel, error=str(error), again_in=round(wait)
        )
    else:
        advance(row, DeliveryState.SENT, sent_at=clock.now(), last_error="", data={"attempts": row.attempts})
        done.sent += 1


def _bury(row: Delivery, error: Exception, done: Told) -> None:
    said = _said(error)
    advance(row, DeliveryState.DEAD, why=said[:200], last_error=said, data={"attempts": row.attempts})
    done.dead += 1


def _said(error: Exception) -> str:
    said = str(error) if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}"
    return redact.text(said)[:1000]


def message_of(row: Delivery) -> Message:
    """What is said, and where. Raises Rejected when the person has taken the address away."""
    address, secret = endpoints.place(row.user, row.channel)
    if isinstance(row, Alert):
        return alerts.message_of(row, address, secret)
    if isinstance(row, RuleDelivery):
        return _of_rule(row, address, secret)
    raise TypeError(f"nothing is known of {type(row).__name__}")


def _of_rule(row: RuleDelivery, address: str, secret: str) -> Message:
    rule, match = row.rule, row.match
    unit = " %" if rule.condition == "change_pct" else " USD"
    wish = f"{rule.get_condition_display()} {plain(rule.threshold) + unit if rule.threshold else ''}".strip()
    return Message(
        ident=f"d_{row.pk}",
        name="rule.matched",
        at=match.at.isoformat(),
        user=row.user.get_username(),
        text=f"{row.symbol} is at {plain(match.price)} USD ({wish})",
        data={
            "rule": rule.rule_id,
            "symbol": row.symbol,
            "condition": rule.condition,
            "threshold": plain(rule.threshold) if rule.threshold else None,
            "price": plain(match.price),
            "value": plain(match.value),
        },
        address=address,
        secret=secret,
    )


def redrive(model: type[Delivery], ids: list[int]) -> int:
    """Give dead deliveries all their tries again, from now; returns how many there were."""
    return len(
        advance_all(model, ids, DeliveryState.DEAD, DeliveryState.PENDING, attempts=0, due_at=clock.now())
    )
