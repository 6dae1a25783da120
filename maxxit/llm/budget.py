"""What calls may cost a day: by purpose, by account and by provider. Booked before a call is made, its price after."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.llm.models import LlmSpend
from maxxit.llm.policy import ProviderStanza, PurposeStanza


class AccountSpent(Retryable):
    """The account that the question is about has used up its calls or its money of the day; others have not."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget of a UTC day; None: without that bound."""

    purpose: str
    account: str
    calls: int | None = None
    usd: Decimal | None = None
    setting: str = ""
    """Where it stands in config/llm.yaml."""
    spent: type[Retryable] = Retryable
    """What is raised when it is used up."""


def limits(
    purpose: str, stanza: PurposeStanza, account: str, provider: str, bill: ProviderStanza
) -> list[Limit]:
    """The budgets that one call counts in, the narrowest first."""
    own = Limit(
        purpose,
        account,
        stanza.calls_per_account_per_day,
        stanza.budget_usd_per_account_per_day,
        setting=f"purposes.{purpose}: calls_per_account_per_day, budget_usd_per_account_per_day",
        spent=AccountSpent,
    )
    billed = Limit(
        "", provider, usd=bill.budget_usd_per_day, setting=f"providers.{provider}.budget_usd_per_day"
    )
    whole = Limit(purpose, "", stanza.calls_per_day, stanza.budget_usd_per_day, setting=f"purposes.{purpose}")
    bounded = account and (own.calls is not None or own.usd is not None)
    return [*([own] if bounded else []), billed, whole]


def book_call(budgets: Sequence[Limit]) -> list[LlmSpend]:
    """Count one call in each budget, or in none: raises `Retryable` until midnight UTC when one is used up.

    Conditional UPDATEs in one transaction, so that workers at the same time cannot overrun the number of calls. Money
    can be overrun by the calls in flight at that moment, whose price nobody knows yet.
    """
    now = clock.now()
    with transaction.atomic():
        return [_book(limit, now) for limit in budgets]


def _book(limit: Limit, now: datetime) -> LlmSpend:
    spend, _ = LlmSpend.objects.get_or_create(day=now.date(), purpose=limit.purpose, account=limit.account)
    within = LlmSpend.objects.filter(pk=spend.pk)
    if limit.calls is not None:
        within = within.filter(calls__lt=limit.calls)
    if limit.usd is not None:
        within = within.filter(usd__lt=limit.usd)
    if within.update(calls=F("calls") + 1):
        return spend
    spend.refresh_from_db()
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    calls = f"{spend.calls} calls" + ("" if limit.calls is None else f" of {limit.calls}")
    usd = f"{spend.usd.normalize():f} USD" + ("" if limit.usd is None else f" of {limit.usd.normalize():f}")
    whose = " ".join(filter(None, (limit.purpose, limit.account)))
    raise limit.spent(
        f"the day's budget of {whose!r} is used up: {calls}, {usd} (config/llm.yaml: {limit.setting})",
        after=(midnight - now).total_seconds(),
    )


def book_cost(spends: Sequence[LlmSpend], usd: Decimal) -> None:
    """Add what a call cost to each budget that it was counted in, one by one: no row waits with another one locked."""
    for spend in spends if usd else ():
        LlmSpend.objects.filter(pk=spend.pk).update(usd=F("usd") + usd)
