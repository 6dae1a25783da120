"""Daily LLM budgets per purpose, account and provider: calls are counted before they are made, costs added after."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.llm import fallback
from maxxit.llm.errors import NotCalled
from maxxit.llm.models import LlmSpend
from maxxit.llm.policy import ProviderStanza, PurposeStanza, policy, recordings


class AccountSpent(Retryable):
    """The account that the prompt is about has used up its daily budget; others have not."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget per UTC day; None means unlimited."""

    purpose: str
    account: str
    calls: int | None = None
    usd: Decimal | None = None
    setting: str = ""
    """Its key in config/llm.yaml."""
    spent: type[Retryable] = NotCalled
    """The error raised when it is used up."""


def limits(
    purpose: str, stanza: PurposeStanza, account: str, provider: str, bill: ProviderStanza
) -> list[Limit]:
    """Return the budgets that a call counts against, the narrowest first."""
    account_limit = Limit(
        purpose,
        account,
        stanza.calls_per_account_per_day,
        stanza.budget_usd_per_account_per_day,
        setting=f"purposes.{purpose}: calls_per_account_per_day, budget_usd_per_account_per_day",
        spent=AccountSpent,
    )
    provider_limit = Limit(
        "", provider, usd=bill.budget_usd_per_day, setting=f"providers.{provider}.budget_usd_per_day"
    )
    purpose_limit = Limit(
        purpose, "", stanza.calls_per_day, stanza.budget_usd_per_day, setting=f"purposes.{purpose}"
    )
    bounded = account and (account_limit.calls is not None or account_limit.usd is not None)
    return [*([account_limit] if bounded else []), provider_limit, purpose_limit]


def book_call(budgets: Sequence[Limit]) -> list[LlmSpend]:
    """Count one call against each budget, or against none.

    Raises `NotCalled` or `AccountSpent` until midnight UTC when one is used up.

    Guarded UPDATEs in one transaction, so that concurrent workers cannot exceed the number of calls. The cost can be
    exceeded by the calls in flight, whose price is not known yet.
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
    budget_name = " ".join(filter(None, (limit.purpose, limit.account)))
    raise limit.spent(
        f"the daily budget of {budget_name!r} is used up: {calls}, {usd} (config/llm.yaml: {limit.setting})",
        after=(midnight - now).total_seconds(),
    )


def calls_left(purpose: str) -> int | None:
    """Return about how many calls today's budgets of `purpose` and of its providers still allow.

    A call is taken to cost what the calls of today cost on average. None where no call is budgeted: a local provider
    or recordings answer.
    """
    if recordings().mode == "replay":
        return None
    try:
        candidates = fallback.candidates(policy(), purpose)
    except Misconfigured:
        return None  # the call says which setting is missing
    if candidates[0].stanza.local:
        return None
    stanza, names = policy().purpose(purpose), [candidate.provider.name for candidate in candidates]
    today = LlmSpend.objects.filter(day=clock.now().date())
    spent = today.filter(purpose=purpose, account="").first() or LlmSpend()
    calls = stanza.calls_per_day - spent.calls
    if spent.usd:
        billed = dict(today.filter(purpose="", account__in=names).values_list("account", "usd"))
        budgets = [candidate.stanza.budget_usd_per_day for candidate in candidates]
        usd = stanza.budget_usd_per_day - spent.usd
        if None not in budgets:
            left = (
                b - billed.get(name, Decimal(0))
                for b, name in zip(budgets, names, strict=True)
                if b is not None
            )
            usd = min(usd, sum((max(one, Decimal(0)) for one in left), Decimal(0)))
        calls = min(calls, int(usd * spent.calls / spent.usd))
    return max(calls, 0)


def book_cost(spends: Sequence[LlmSpend], usd: Decimal) -> None:
    """Add the cost of a call to each of its budgets, in separate statements, so that no two rows are locked at once."""
    for spend in spends if usd else ():
        LlmSpend.objects.filter(pk=spend.pk).update(usd=F("usd") + usd)
