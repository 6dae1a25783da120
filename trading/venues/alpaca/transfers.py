"""Book what an owner moved in or out of an Alpaca account, from its CSD and CSW activities.

A transfer has a date and no time. What came before the deployment's first deposit is in that deposit. On its own day,
and later, the difference decides: a transfer that an operator booked as a difference already is not booked again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import combinations
from typing import Any

from django.db import transaction

from agents.models import Deployment
from maxxit.core.money import USD, ZERO
from trading import ledger
from trading.models import JournalKind, LedgerEntry

KINDS = "CSD,CSW"
"""Cash deposits and withdrawals."""
MOST_COMBINED = 10
"""Transfers whose combinations are tried."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer, USD; positive: in."""

    reference: str
    day: date
    amount: Decimal

    @classmethod
    def of(cls, activity: Mapping[str, Any]) -> "Transfer":
        """Parse an activity."""
        return cls(
            f"alpaca:{activity['id']}", date.fromisoformat(activity["date"]), Decimal(activity["net_amount"])
        )


def book(deployment: Deployment, transfers: Iterable[Transfer], since: date, difference: Decimal) -> Decimal:
    """Book the transfers that are not booked yet and explain the difference; return the sum of those booked now.

    `difference`: venue minus ledger, USD.
    """
    new = [one for one in transfers if one.day >= since and not _is_booked(one)]
    chosen = choose(new, since, difference, _booked_by_operators(deployment))
    explained = ZERO
    with transaction.atomic():
        for one in chosen:
            move = ledger.external_move(ledger.account_of(deployment.pk), USD, one.amount)
            if ledger.post(JournalKind.EXTERNAL, one.reference, [move]):
                explained += one.amount
    return explained


def choose(
    transfers: Sequence[Transfer], since: date, difference: Decimal, by_operators: Iterable[Decimal]
) -> list[Transfer]:
    """Return the transfers to book: those that explain the difference exactly, else what brings it nearer to zero.

    Args:
        since: day of the first deposit, which may include the transfers of that day: they are booked only in an exact
            explanation.
        difference: venue minus ledger, USD.
        by_operators: USD of each difference that an operator booked; a transfer of that amount may be booked with it.
    """
    if not difference:
        return []
    if len(transfers) <= MOST_COMBINED:
        for size in range(1, len(transfers) + 1):
            for some in combinations(transfers, size):
                if sum((one.amount for one in some), ZERO) == difference:
                    return list(some)
    left = [one for one in transfers if one.day > since]
    for amount in by_operators:
        if match := next((one for one in left if one.amount == amount), None):
            left.remove(match)
    rest = difference - sum((one.amount for one in left), ZERO)
    return left if abs(rest) < abs(difference) else []


def _booked_by_operators(deployment: Deployment) -> list[Decimal]:
    """Return the USD of each difference of the account that an operator booked, positive: in."""
    rows = LedgerEntry.objects.filter(
        deployment__account=deployment.account, journal_kind=JournalKind.UNEXPLAINED, asset=USD
    )
    return list(rows.order_by("pk").values_list("amount", flat=True))


def _is_booked(transfer: Transfer) -> bool:
    return LedgerEntry.objects.filter(journal=f"{JournalKind.EXTERNAL}:{transfer.reference}").exists()
