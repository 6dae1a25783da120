"""Models of perps: funding that positions paid or received, and the margin that venues report for them."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


class FundingPayment(models.Model):
    """One funding payment of a deployment's position; booked in the ledger with it, never changed."""

    deployment = models.ForeignKey("agents.Deployment", models.PROTECT, related_name="funding_payments")
    symbol = models.CharField(max_length=20)
    amount = models.DecimalField(**COLUMN, help_text="in the venue's cash; negative: paid")
    reference = models.CharField(
        max_length=60, help_text="of the payment at the venue, unique in a deployment"
    )
    at = models.DateTimeField(help_text="when the venue charged it")

    class Meta:
        db_table = "funding_payments"
        ordering = ("-at", "-id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "reference"], name="funding_is_booked_once")
        ]
        indexes = (models.Index(fields=["deployment", "symbol", "at"], name="funding_of_a_position"),)

    def __str__(self) -> str:
        return f"{self.amount.normalize():+f} for {self.symbol}"


class MarginPosition(models.Model):
    """A position with margin as its venue reported it last. Only `trading.perps.margin` writes it."""

    venue = models.CharField(max_length=40)
    account = models.CharField(max_length=80)
    symbol = models.CharField(max_length=20)
    leverage = models.DecimalField(max_digits=6, decimal_places=2)
    isolated = models.BooleanField(help_text="it can lose its own margin only, not the whole account")
    margin = models.DecimalField(**COLUMN, help_text="in the venue's cash")
    liquidation_price = models.DecimalField(
        **COLUMN, null=True, help_text="USD; empty where the account's money covers every price"
    )
    maintenance = models.DecimalField(
        max_digits=9,
        decimal_places=8,
        null=True,
        help_text="maintenance margin as a fraction of the value; empty where the venue does not say",
    )
    seen_at = models.DateTimeField(help_text="when the venue said so")
    warned_at = models.DateTimeField(
        null=True, help_text="since when it is near its liquidation; empty while it is not"
    )

    class Meta:
        db_table = "margin_positions"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["venue", "account", "symbol"], name="one_margin_position")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} of {self.account} at {self.venue}"
