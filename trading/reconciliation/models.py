"""Models of reconciliation: when each account is asked next, and what venues hold for it."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


class AccountCheck(models.Model):
    """When the orders, or the positions, of one account are compared with its venue next, and how it went last."""

    class Kind(models.TextChoices):
        """What is compared."""

        ORDERS = "orders"
        POSITIONS = "positions"

    venue = models.CharField(max_length=20)
    account = models.CharField(max_length=80)
    kind = models.CharField(max_length=9, choices=Kind)
    due_at = models.DateTimeField()
    checked_at = models.DateTimeField(null=True, help_text="when the venue last answered")
    result = models.CharField(
        max_length=30,
        blank=True,
        default="",
        db_default="",
        help_text="read, failed or skipped_market_closed",
    )
    failures = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="failed reads in a row; each delays the next one further"
    )
    errors = models.PositiveBigIntegerField(default=0, db_default=0, help_text="failed reads ever")
    last_error = models.CharField(max_length=300, blank=True, default="", db_default="")
    took_ms = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "account_checks"
        ordering = ("venue", "account", "kind")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["venue", "account", "kind"], name="one_check_per_account_and_kind"
            )
        ]
        indexes = (models.Index(fields=["kind", "due_at"], name="account_checks_due"),)

    def __str__(self) -> str:
        return f"{self.kind} of {self.account} at {self.venue}"


class VenueHolding(models.Model):
    """What a venue holds of one asset for one account, beside what the ledger has. Only `holdings` writes it."""

    class Origin(models.TextChoices):
        """How the ledger explains the holding."""

        BOOKED = "booked", "as booked"
        AUTO_DISCOVERED = "AUTO_DISCOVERED", "more than booked: opened or moved in elsewhere"
        ORPHANED = "ORPHANED", "less than booked: sold, withdrawn or closed elsewhere"
        CASH = "cash_differs", "other cash than booked"

    venue = models.CharField(max_length=20)
    account = models.CharField(max_length=80)
    asset = models.CharField(max_length=20)
    quantity = models.DecimalField(
        **COLUMN, help_text="at the venue, whole units; negative: short; zero once gone"
    )
    booked = models.DecimalField(**COLUMN, help_text="in the ledger at the same time")
    unexplained = models.DecimalField(
        **COLUMN, default=0, db_default=0, help_text="venue less ledger; zero while an order may explain it"
    )
    origin = models.CharField(max_length=15, choices=Origin, default=Origin.BOOKED, db_default=Origin.BOOKED)
    since = models.DateTimeField(help_text="since when it is explained like this")
    seen_at = models.DateTimeField(help_text="when the venue last answered for this account")

    class Meta:
        db_table = "venue_holdings"
        ordering = ("venue", "account", "asset")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["venue", "account", "asset"], name="one_holding_per_account_and_asset"
            )
        ]
        indexes = (
            models.Index(
                fields=["origin", "venue", "account"],
                name="venue_holdings_unexplained",
                condition=~models.Q(origin="booked"),
            ),
        )

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} {self.asset} of {self.account} at {self.venue}"
