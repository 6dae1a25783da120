"""Test messages: sent on the same way as real ones, so that the delivery log shows what became of them."""

from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.events.record import record
from maxxit.notify import endpoints, kinds, rules
from maxxit.notify.models import Alert, Endpoint, PriceRule

PER_HOUR = 20
"""Test messages of one user."""


def send_to_channel(user: AbstractBaseUser, channel: str) -> Alert:
    """Queue a test message to `user` on a channel. Raises Rejected without an address there, or after too many."""
    endpoints.require(user, channel)
    return _queue(
        user, channel, kinds.TESTS[0], endpoints.current(user, channel) or user, _text(user, channel)
    )


def send_of_rule(rule: PriceRule) -> Alert:
    """Queue a test message of a rule on its channel, which says whether it matches now. Raises Rejected as above."""
    endpoints.require(rule.user, rule.channel)
    hits = rules.holds_now(rule)
    now = ", ".join(f"{hit.symbol} is at {plain(hit.price)} USD" for hit in hits[:5])
    names = ", ".join(rule.symbols)
    text = f"Test of rule {rule.rule_id}, {names} {rules.condition_text(rule)}: " + (
        f"it matches now, {now}" if hits else "it does not match at the present quotes"
    )
    return _queue(rule.user, rule.channel, kinds.TESTS[1], rule, text)


def _text(user: AbstractBaseUser, channel: str) -> str:
    return f"Test message for {user.get_username()} on the channel {channel}: it works"


@transaction.atomic
def _queue(user: AbstractBaseUser, channel: str, name: str, row: models.Model, text: str) -> Alert:
    since = clock.now() - timedelta(hours=1)
    recent = Alert.objects.filter(user_id=user.pk, at__gt=since, event__name__in=kinds.TESTS).count()
    if recent >= PER_HOUR:
        raise Rejected(
            f"{PER_HOUR} test messages an hour are the limit: try again later", code="too_many_tests"
        )
    event = record(name, row, channel=channel, text=text, owner_id=user.pk)
    Endpoint.objects.filter(user_id=user.pk, channel=channel, active=True).update(rests_until=None)
    return Alert.objects.create(event=event, user_id=user.pk, channel=channel, at=event.at, due_at=event.at)
