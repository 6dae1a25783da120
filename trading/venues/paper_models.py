"""Models of the paper exchange: its own orders, fills and balances, apart from ours."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN
from maxxit.core.terms import OrderSide, choices

ACCOUNT = 128
"""Longest name: of a venue with margin, and of the account."""


class PaperOrder(models.Model):
    """An order in the paper exchange's own book; linked to ours by the client order id alone."""

    client_order_id = models.CharField(max_length=80, unique=True)
    account = models.CharField(max_length=ACCOUNT)
    symbol = models.CharField(max_length=20)
    side = models.CharField(max_length=4, choices=choices(OrderSide))
    quantity = models.DecimalField(**COLUMN)
    filled = models.DecimalField(**COLUMN, default=0)
    canceled = models.BooleanField(default=False)
    last_price = models.DecimalField(
        **COLUMN,
        null=True,
        help_text="USD; an urgent closing order fills at this price where there is no fresh quote",
    )
    leverage = models.DecimalField(max_digits=6, decimal_places=2, default=1, db_default=1)
    reduce_only = models.BooleanField(default=False, db_default=False, help_text="it opens nothing")
    is_liquidation = models.BooleanField(
        default=False, db_default=False, help_text="the exchange's own: a position's margin was used up"
    )
    accepted_at = models.DateTimeField()

    class Meta:
        db_table = "paper_orders"
        indexes = (
            models.Index(
                fields=["account"], name="paper_liquidations", condition=models.Q(is_liquidation=True)
            ),
        )

    def __str__(self) -> str:
        return self.client_order_id


class PaperFill(models.Model):
    """One execution on the paper exchange."""

    order = models.ForeignKey(PaperOrder, models.CASCADE, related_name="fills")
    quantity = models.DecimalField(**COLUMN)
    price = models.DecimalField(**COLUMN)
    cash = models.DecimalField(**COLUMN)
    fee = models.DecimalField(**COLUMN)
    quote_age_seconds = models.PositiveIntegerField(
        null=True, help_text="age of the quote at the fill; empty without one"
    )
    at = models.DateTimeField()

    class Meta:
        db_table = "paper_fills"

    def __str__(self) -> str:
        return f"{self.order} {self.quantity} @ {self.price}"


class PaperBalance(models.Model):
    """What an account holds on the paper exchange; a short is a negative balance."""

    account = models.CharField(max_length=ACCOUNT)
    asset = models.CharField(max_length=20)
    amount = models.DecimalField(**COLUMN, default=0)

    class Meta:
        db_table = "paper_balances"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "asset"], name="one_paper_balance")
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount} {self.asset}"


class PaperPosition(models.Model):
    """A position with isolated margin on the paper exchange; without tokens once it is closed."""

    account = models.CharField(max_length=ACCOUNT)
    symbol = models.CharField(max_length=20)
    tokens = models.DecimalField(**COLUMN, default=0, help_text="negative for a short")
    cash = models.DecimalField(
        **COLUMN,
        default=0,
        help_text="USDC: its margin less what its tokens cost, plus funding (trading.perps.isolated)",
    )
    leverage = models.DecimalField(max_digits=6, decimal_places=2, default=1, help_text="of the newest entry")
    opened_at = models.DateTimeField(help_text="when it last went from nothing to something")
    checked_until = models.DateTimeField(help_text="bars that opened before were looked at")
    funded_until = models.DateTimeField(help_text="funding up to then was charged")

    class Meta:
        db_table = "paper_positions"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="one_paper_position")
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.tokens} {self.symbol}"


class PaperFunding(models.Model):
    """One funding payment that the paper exchange charged or paid."""

    account = models.CharField(max_length=ACCOUNT)
    symbol = models.CharField(max_length=20)
    amount = models.DecimalField(**COLUMN, help_text="USDC; negative: the account paid")
    at = models.DateTimeField()

    class Meta:
        db_table = "paper_funding"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol", "at"], name="paper_funding_once")
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount.normalize():+f} for {self.symbol}"
