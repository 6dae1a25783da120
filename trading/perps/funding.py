"""Book funding payments: what positions pay, or receive, for being held. A cost or a gain, never a transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import Max, Sum

from agents.models import Deployment
from maxxit.core.money import ZERO
from maxxit.market.venues import venue_policy
from trading import ledger
from trading.ledger import Journal, Move
from trading.models import JournalKind
from trading.perps.models import FundingPayment


@dataclass(frozen=True, slots=True)
class Funding:
    """A payment as the venue reports it."""

    symbol: str
    amount: Decimal
    """In the venue's cash; negative: paid."""
    reference: str
    at: datetime


@transaction.atomic
def book(deployment: Deployment, payments: Sequence[Funding]) -> Decimal:
    """Book the payments that are not booked yet; return the sum of those that were booked now."""
    Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)  # one reader books at a time
    references = [one.reference for one in payments]
    known = set(
        FundingPayment.objects.filter(deployment=deployment, reference__in=references).values_list(
            "reference", flat=True
        )
    )
    new = list({one.reference: one for one in payments if one.reference not in known and one.amount}.values())
    FundingPayment.objects.bulk_create(
        FundingPayment(
            deployment=deployment, symbol=one.symbol, amount=one.amount, reference=one.reference, at=one.at
        )
        for one in new
    )
    ledger.post_all([_journal(deployment, one) for one in new])
    return sum((one.amount for one in new), ZERO)


def _journal(deployment: Deployment, one: Funding) -> Journal:
    venue = deployment.agent.venue
    account, other = ledger.account_of(deployment.pk), f"venue:{venue}:funding"
    source, target = (other, account) if one.amount > 0 else (account, other)
    move = Move(source, target, venue_policy(venue).cash, abs(one.amount), "funding")
    return Journal(JournalKind.FUNDING, f"{deployment.pk}:{one.reference}", [move])


def last_booked(deployment: Deployment) -> datetime | None:
    """Return the time of the newest payment that is booked; None where there is none."""
    newest: datetime | None = FundingPayment.objects.filter(deployment=deployment).aggregate(Max("at"))[
        "at__max"
    ]
    return newest


def of_position(deployment_id: int, symbol: str, since: datetime, until: datetime | None) -> Decimal:
    """Return the funding of a deployment's position, in the venue's cash; negative: paid.

    It is that of the symbol while the position was open: one account holds one position of a symbol.
    """
    rows = FundingPayment.objects.filter(deployment=deployment_id, symbol=symbol, at__gte=since)
    if until is not None:
        rows = rows.filter(at__lte=until)
    return rows.aggregate(total=Sum("amount"))["total"] or ZERO
