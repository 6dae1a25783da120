"""Book payments of what a deployment owes the platform and its venue does not collect."""

import re
from decimal import Decimal

from django.db import transaction

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.core.money import USDC_UNIT, plain, usdc
from maxxit.events.record import record
from trading import ledger
from trading.models import JournalKind, LedgerEntry

REFERENCE = re.compile(r"[\w./:#-][\w ./:#-]{0,69}")
"""What a payment's reference may look like, such as a transaction hash."""


def parse_amount(text: str) -> Decimal:
    """Return an amount in USDC. Raises Rejected unless it is a positive number with at most six decimals."""
    try:
        amount = Decimal(text)
        valid = amount.is_finite() and amount > 0 and amount == amount.quantize(USDC_UNIT)
    except ArithmeticError:
        valid = False
    if not valid:
        raise Rejected(
            f"{text!r} is not an amount: give USDC above 0 with at most six decimals, for example 12.50",
            code="no_amount",
        )
    return usdc(amount)


@transaction.atomic
def pay(deployment_id: int, amount: Decimal, reference: str, *, by: str) -> bool:
    """Book a payment from outside, once per reference; return False where the same payment was booked before.

    It repays a debt: in the equity of the deployment it is a flow, neither a profit nor a deposit to trade with.

    Args:
        amount: USDC, positive.
        reference: of the bank transfer or transaction; one payment per reference.

    Raises Rejected for more than is owed, or a reference of another payment.
    """
    if not REFERENCE.fullmatch(reference):
        raise Rejected(
            f"{reference!r} is not a reference: give 1 to 70 letters, digits, spaces or . / : # - _",
            code="no_reference",
        )
    # One payment of a deployment at a time; charges that are booked meanwhile only raise what is owed.
    deployment = Deployment.objects.select_for_update(no_key=True).filter(pk=deployment_id).first()
    if deployment is None:
        raise Rejected(
            f"there is no deployment {deployment_id}: `manage.py portfolio` lists them", code="unknown"
        )
    if before := _booked(reference):
        return _check_same(before, deployment_id, amount, reference)
    owed = -ledger.owed(deployment_id)
    if amount > owed:
        raise Rejected(
            f"deployment {deployment_id} owes {plain(owed)} USDC, less than {plain(amount)}: book at most what is owed",
            code="more_than_owed",
        )
    if not ledger.book_payment(deployment_id, reference, amount):  # another deployment's, at the same moment
        raise Rejected(
            f"the reference {reference!r} is booked already: give another one", code="reference_used"
        )
    record(
        "billing.paid",
        deployment,
        amount=f"{plain(amount)} USDC",
        reference=reference,
        by=by,
        still_owed=f"{plain(owed - amount)} USDC",
    )
    return True


def _booked(reference: str) -> LedgerEntry | None:
    """Return the deployment's line of the payment with that reference."""
    journal = f"{JournalKind.PAYMENT}:{reference}"
    return LedgerEntry.objects.filter(journal=journal, deployment__isnull=False).first()


def _check_same(line: LedgerEntry, deployment_id: int, amount: Decimal, reference: str) -> bool:
    """Return False for the same payment. Raises Rejected for another one with this reference."""
    if line.deployment_id == deployment_id and line.amount == amount:
        return False
    raise Rejected(
        f"the reference {reference!r} is that of a payment of {plain(line.amount)} USDC for deployment "
        f"{line.deployment_id} on {line.at:%Y-%m-%d}: give another reference",
        code="reference_used",
    )
