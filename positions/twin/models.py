"""Models of the paper twin: each compared order, the state of each test for drift, how far orders were read."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from maxxit.core.money import COLUMN
from maxxit.core.terms import OrderSide, Purpose, choices
from positions.twin.policy import MEASURES

OUTCOMES = ("filled", "partial", "missed", "unknown")
"""What the live account got: all, a part, nothing, or it is not known yet."""


class TwinFill(models.Model):
    """What the paper twin got for one order of a live deployment, beside what the live account got."""

    order = models.OneToOneField("trading.Order", models.PROTECT, related_name="+")
    deployment = models.ForeignKey(
        "agents.Deployment", models.PROTECT, related_name="twin_fills", db_index=False
    )
    at = models.DateTimeField(help_text="when it was decided to send the order")
    venue = models.CharField(max_length=20)
    symbol = models.CharField(max_length=20)
    purpose = models.CharField(max_length=5, choices=choices(Purpose))
    side = models.CharField(max_length=4, choices=choices(OrderSide))
    outcome = models.CharField(max_length=7, choices=[(name, name) for name in OUTCOMES])
    ordered = models.DecimalField(**COLUMN, help_text="tokens; the twin got them all")
    filled = models.DecimalField(**COLUMN, help_text="tokens that the live account got")
    quote = models.DecimalField(**COLUMN, help_text="USD; of the decision")
    quote_from = models.CharField(
        max_length=7,
        choices=[("checks", "the quote that the checks used"), ("level", "the exit level of the position")],
    )
    slippage_bps = models.PositiveIntegerField(help_text="that the twin paid on the quote")
    fee_bps = models.PositiveIntegerField(help_text="that the twin paid of the cash")
    live_price = models.DecimalField(**COLUMN, null=True, help_text="USD; average of the fills")
    twin_price = models.DecimalField(**COLUMN, help_text="USD")
    live_fee = models.DecimalField(**COLUMN, help_text="of the venue, USDC")
    twin_fee = models.DecimalField(**COLUMN, help_text="of what the live account got, USDC")
    live_seconds = models.FloatField(
        null=True, help_text="from the decision to the last fill; the twin's is 0"
    )
    price_bps = models.FloatField(null=True, help_text="live worse than the twin, basis points of the quote")
    excess_fee_bps = models.FloatField(null=True, help_text="fee above the twin's, basis points of the value")
    live_pnl = models.DecimalField(
        **COLUMN, null=True, help_text="of the position that it closed, after venue fees, USDC"
    )
    twin_pnl = models.DecimalField(**COLUMN, null=True, help_text="USDC")
    pnl_bps = models.FloatField(
        null=True, help_text="live worse than the twin, basis points of the entry's value"
    )
    awaits_close = models.BooleanField(
        default=False, help_text="of a closing order: its position is not closed yet"
    )

    class Meta:
        db_table = "twin_fills"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["deployment", "at"], name="twin_fills_deployment"),
            models.Index(fields=["at"], name="twin_fills_at"),
            models.Index(fields=["id"], name="twin_fills_await", condition=Q(awaits_close=True)),
            models.Index(fields=["id"], name="twin_fills_unknown", condition=Q(outcome="unknown")),
        )

    def __str__(self) -> str:
        return f"twin of order {self.order_id} ({self.outcome})"


class TwinDrift(models.Model):
    """The sequential test of one measure of one deployment (`positions.twin.drift.State`)."""

    deployment = models.ForeignKey(
        "agents.Deployment", models.PROTECT, related_name="twin_drifts", db_index=False
    )
    measure = models.CharField(max_length=7, choices=[(name, name) for name in MEASURES])
    count = models.PositiveIntegerField(default=0, help_text="values so far")
    noise = models.FloatField(null=True, help_text="standard deviation, as measured")
    last = models.FloatField(null=True, help_text="the latest value")
    score = models.FloatField(
        default=0, help_text="log likelihood ratio; the alarm is at log(values_per_false_alarm)"
    )
    run = models.PositiveIntegerField(default=0, help_text="values since the score was last zero")
    run_sum = models.FloatField(default=0, help_text="their sum")
    alarm = models.BooleanField(default=False)
    alarm_at = models.DateTimeField(null=True, help_text="when the latest alarm was raised")
    alarms = models.PositiveIntegerField(default=0, help_text="raised so far")

    class Meta:
        db_table = "twin_drifts"
        ordering = ("deployment", "measure")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "measure"], name="one_test_a_measure")
        ]
        indexes = (models.Index(fields=["id"], name="twin_drifts_alarm", condition=Q(alarm=True)),)

    def __str__(self) -> str:
        return f"{self.measure} of deployment {self.deployment_id}{': drifts' if self.alarm else ''}"

    @property
    def run_mean(self) -> float:
        """Mean of the values since the score was last zero: the estimate of the drift; 0 without any."""
        return self.run_sum / self.run if self.run else 0.0


class TwinMark(models.Model):
    """The single row that says up to which order all were looked at."""

    order = models.BigIntegerField(help_text="every order up to this id is compared, or never will be")

    class Meta:
        db_table = "twin_marks"

    def __str__(self) -> str:
        return f"compared up to order {self.order}"
