"""Book what an owner moved in or out of an Alpaca account, from its CSD and CSW activities.

A transfer has a date and no time. What came before the deployment's first deposit is in that deposit. On its own day
the difference decides: the transfers of that day are booked only where they explain it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import transaction

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.money import USD, ZERO
from trading import ledger
from trading.ledger import Move
from trading.models import JournalKind, LedgerEntry

KINDS = "CSD,CSW"
"""Cash deposits and withdrawals."""


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


def booking_deployment(venue: str, account: str) -> Deployment | None:
    """Return the deployment that transfers are booked to: the account's first one that is not revoked."""
    deployments = list(Deployment.objects.filter(account=account, agent__venue=venue).order_by("pk"))
    return next(
        (one for one in deployments if one.state != DeploymentState.REVOKED),
        deployments[0] if deployments else None,
    )


def first_deposit_day(deployment: Deployment) -> date | None:
    """Return the UTC day on which the account's cash was booked first; None before that."""
    row = (
        LedgerEntry.objects.filter(deployment=deployment, journal_kind=JournalKind.DEPOSIT)
        .order_by("pk")
        .first()
    )
    return row.at.date() if row else None


def book(deployment: Deployment, transfers: Iterable[Transfer], since: date, difference: Decimal) -> Decimal:
    """Book the transfers that are not booked yet; return the sum of those that were booked now.

    `difference`: venue minus ledger, USD.
    """
    new = [one for one in transfers if one.day >= since and not _is_booked(one)]
    later = [one for one in new if one.day > since]
    same_day = [one for one in new if one.day == since]
    left = difference - sum((one.amount for one in later), ZERO)
    chosen = later + (same_day if left and sum((one.amount for one in same_day), ZERO) == left else [])
    explained = ZERO
    with transaction.atomic():
        for one in chosen:
            account = ledger.account_of(deployment.pk)
            source, target = ("external", account) if one.amount > 0 else (account, "external")
            move = Move(source, target, USD, abs(one.amount), "external")
            if ledger.post(JournalKind.EXTERNAL, one.reference, [move]):
                explained += one.amount
    return explained


def _is_booked(transfer: Transfer) -> bool:
    return LedgerEntry.objects.filter(journal=f"{JournalKind.EXTERNAL}:{transfer.reference}").exists()
