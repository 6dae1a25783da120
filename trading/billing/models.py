"""Model of billing events: charges that do not follow from a trade and so need a state of their own."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN
from trading.billing import states


class BillingKind(models.TextChoices):
    """What a customer is charged for.

    Fees of trades and profit shares have no rows: the ledger books them with their fill or position, so that nothing
    can differ from it.
    """

    SUBSCRIPTION = "subscription", "a month of use"
    INFRA_FEE = "infra_fee", "platform fee of a trade"
    PROFIT_SHARE = "profit_share", "share of a profit"


class BillingEvent(models.Model):
    """One charge of a deployment, written before it is booked. `reference` makes it once per deployment and kind."""

    MOVES = states.BILLING
    EVENT_NAMES: ClassVar = {state: f"billing.{state}" for state in states.BillingState}

    deployment = models.ForeignKey("agents.Deployment", models.PROTECT, related_name="billing_events")
    kind = models.CharField(
        max_length=12,
        choices=BillingKind,
        default=BillingKind.SUBSCRIPTION,
        db_default=BillingKind.SUBSCRIPTION,
    )
    reference = models.CharField(
        max_length=40, help_text="what is charged: of a subscription the day on which its month begins"
    )
    period_start = models.DateTimeField(help_text="UTC; begin of the month that is charged")
    period_end = models.DateTimeField(help_text="UTC; begin of the next month")
    amount = models.DecimalField(**COLUMN, help_text="USDC")
    state = models.CharField(
        max_length=8,
        default=states.BillingState.DUE,
        db_default=states.BillingState.DUE,
        choices=[(s, s) for s in states.BillingState],
        editable=False,
    )
    reason = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="why it failed or was waived"
    )
    journal = models.CharField(
        max_length=80, blank=True, default="", db_default="", help_text="the ledger journal that books it"
    )
    created_at = models.DateTimeField()
    charged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "billing_events"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "kind", "reference"], name="charged_once"),
            models.CheckConstraint(name="a_charge_is_positive", condition=models.Q(amount__gt=0)),
        ]
        indexes = (
            models.Index(
                fields=["id"], name="billing_uncharged", condition=models.Q(state__in=states.UNCHARGED)
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} of deployment {self.deployment_id} from {self.period_start:%Y-%m-%d}"
