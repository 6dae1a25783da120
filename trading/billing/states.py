"""States of a billing event: due -> charged; a charge that failed is tried again, or waived by a person."""

from enum import StrEnum


class BillingState(StrEnum):
    DUE = "due"
    CHARGED = "charged"
    FAILED = "failed"
    WAIVED = "waived"


BILLING = {
    BillingState.DUE: frozenset({BillingState.CHARGED, BillingState.FAILED, BillingState.WAIVED}),
    BillingState.FAILED: frozenset({BillingState.CHARGED, BillingState.WAIVED}),
    BillingState.CHARGED: frozenset(),
    BillingState.WAIVED: frozenset(),
}
"""Whether a charge is paid follows from the ledger (`trading.billing.debts`), so it is no state."""
UNCHARGED = (BillingState.DUE, BillingState.FAILED)
