"""What a purpose may cost a day: a call is booked before it is made, its price after."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.llm.models import LlmSpend
from maxxit.llm.policy import PurposeStanza


def book_call(purpose: str, stanza: PurposeStanza) -> LlmSpend:
    """Count one call, or raise `Retryable` until midnight UTC when the day's calls or money are used up.

    One conditional UPDATE, so that workers at the same time cannot overrun the number of calls. Money can be
    overrun by the calls in flight at that moment, whose price nobody knows yet.
    """
    now = clock.now()
    spend, _ = LlmSpend.objects.get_or_create(day=now.date(), purpose=purpose)
    within = LlmSpend.objects.filter(
        pk=spend.pk, calls__lt=stanza.calls_per_day, usd__lt=stanza.budget_usd_per_day
    )
    if within.update(calls=F("calls") + 1):
        return spend
    spend.refresh_from_db()
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    raise Retryable(
        f"the day's budget of {purpose!r} is used up: {spend.calls} of {stanza.calls_per_day} calls,"
        f" {spend.usd.normalize():f} of {stanza.budget_usd_per_day} USD (config/llm.yaml)",
        after=(midnight - now).total_seconds(),
    )


def book_cost(spend: LlmSpend, usd: Decimal) -> None:
    """Add what a call cost."""
    if usd:
        LlmSpend.objects.filter(pk=spend.pk).update(usd=F("usd") + usd)
