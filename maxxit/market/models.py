"""Prices as they were seen, and what users want to be told about them."""

import secrets
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from maxxit.core.money import COLUMN
from maxxit.market import states


class Quote(models.Model):
    """The newest accepted price of a symbol. The exit sweep joins this table."""

    symbol = models.CharField(max_length=20, primary_key=True)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="when the source says the price was true")
    source = models.CharField(max_length=20)
    trusted_for_entries = models.BooleanField(
        default=True,
        db_default=True,
        help_text="off while the sources disagree: closing goes on, opening does not",
    )
    doubt = models.CharField(
        max_length=30, blank=True, default="", db_default="", help_text="why it is not trusted"
    )

    class Meta:
        db_table = "quotes"
        ordering = ("symbol",)

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f}"


class SourceQuote(models.Model):
    """The newest price that one source gave for a symbol and that was sound in itself."""

    symbol = models.CharField(max_length=20)
    source = models.CharField(max_length=20)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="when the source says the price was true")
    confidence = models.DecimalField(
        **COLUMN, null=True, help_text="USD either side of the price, if the source says"
    )
    received_at = models.DateTimeField()

    class Meta:
        db_table = "source_quotes"
        ordering = ("symbol", "source")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["symbol", "source"], name="one_source_quote")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f} ({self.source})"


class RefusedQuote(models.Model):
    """A price that was not used. One row per symbol, source, reason and hour: a dead feed cannot fill the table."""

    symbol = models.CharField(max_length=20)
    source = models.CharField(max_length=20)
    reason = models.CharField(
        max_length=20,
        help_text="not_positive, out_of_range, stale, from_the_future, not_confident, jump or deviates",
    )
    hour = models.DateTimeField(help_text="start of the hour, UTC")
    price = models.CharField(max_length=60, help_text="USD, as the source gave it the last time; may be NaN")
    value = models.CharField(max_length=80, help_text="what was measured the last time")
    limit = models.CharField(max_length=40, help_text="what is allowed")
    times = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "refused_quotes"
        ordering = ("-last_at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["symbol", "source", "reason", "hour"], name="one_refusal_an_hour")
        ]
        indexes = (models.Index(fields=["last_at"], name="refused_quotes_newest"),)

    def __str__(self) -> str:
        return f"{self.symbol} {self.source}: {self.reason} ({self.value})"


class Candle(models.Model):
    """One five-minute bar. Coarser bars are computed from these."""

    symbol = models.CharField(max_length=20)
    open_time = models.DateTimeField(
        help_text="start of the bar, UTC; known only after open_time + 5 minutes"
    )
    open = models.DecimalField(**COLUMN)
    high = models.DecimalField(**COLUMN)
    low = models.DecimalField(**COLUMN)
    close = models.DecimalField(**COLUMN)
    volume = models.DecimalField(**COLUMN, default=0)

    class Meta:
        db_table = "candles"
        ordering = ("symbol", "-open_time")
        constraints: ClassVar = [models.UniqueConstraint(fields=["symbol", "open_time"], name="one_bar")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.open_time:%Y-%m-%d %H:%M} {self.close.normalize():f}"


class MinuteCandle(models.Model):
    """One one-minute bar out of live ticks: for charts and price rules. One partition a month."""

    pk = models.CompositePrimaryKey("symbol", "open_time")
    symbol = models.CharField(max_length=20)
    open_time = models.DateTimeField(help_text="start of the bar, UTC")
    open = models.DecimalField(**COLUMN)
    high = models.DecimalField(**COLUMN)
    low = models.DecimalField(**COLUMN)
    close = models.DecimalField(**COLUMN)

    class Meta:
        db_table = "candles_1m"

    def __str__(self) -> str:
        return f"{self.symbol} {self.open_time:%Y-%m-%d %H:%M} {self.close.normalize():f}"


class MarketSnapshot(models.Model):
    """The indicators of a symbol over the bars that had closed by `until`. Signals point at the one they used."""

    symbol = models.CharField(max_length=20)
    window_start = models.DateTimeField(help_text="start of the six-hour window that it was made in, UTC")
    until = models.DateTimeField(help_text="end of the newest bar in it, UTC; nothing later is in it")
    terms = models.CharField(max_length=60, help_text="width and number of the bars")
    figures = models.JSONField(help_text="every field of maxxit.market.indicators.Snapshot, unrounded")
    made_at = models.DateTimeField()
    superseded = models.BooleanField(
        default=False, help_text="bars were filled in since: what asks later gets a new one"
    )

    class Meta:
        db_table = "market_snapshots"
        ordering = ("-until", "symbol")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["symbol", "until", "terms"],
                condition=models.Q(superseded=False),
                name="one_standing_snapshot",
            )
        ]
        indexes = (models.Index(fields=["symbol", "window_start"], name="market_snapshots_window"),)

    def __str__(self) -> str:
        return f"{self.symbol} until {self.until:%Y-%m-%d %H:%M}"


class BackfillMark(models.Model):
    """How far a backfill came, so that the same command goes on from there."""

    feed = models.CharField(max_length=20)
    symbol = models.CharField(max_length=20)
    begins = models.DateTimeField(help_text="UTC, inclusive")
    ends = models.DateTimeField(help_text="UTC, exclusive")
    done_until = models.DateTimeField(
        help_text="every bar that opened before this is stored, or does not exist"
    )
    bars = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "backfill_marks"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["feed", "symbol", "begins", "ends"], name="one_backfill_mark")
        ]

    def __str__(self) -> str:
        return f"{self.feed} {self.symbol} until {self.done_until:%Y-%m-%d %H:%M}"


def new_rule_id() -> str:
    """`r_` and eight hexadecimal digits."""
    return f"r_{secrets.token_hex(4)}"


class Condition(models.TextChoices):
    """What a price rule waits for."""

    GT = "gt", "price above"
    LT = "lt", "price below"
    CHANGE_PCT = "change_pct", "price changes by percent, up or down, within a time"
    ANY = "any", "any new price"


class PriceRule(models.Model):
    """A user's wish to be told about a price."""

    rule_id = models.CharField(max_length=10, unique=True, default=new_rule_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="price_rules")
    symbols = ArrayField(models.CharField(max_length=20), help_text="instruments, or * for every one")
    condition = models.CharField(max_length=10, choices=Condition.choices)
    threshold = models.DecimalField(**COLUMN, null=True, blank=True, help_text="USD; for change_pct percent")
    window_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="for change_pct: since how long ago"
    )
    channel = models.CharField(max_length=20, default="inbox", help_text="how to tell the user")
    metadata = models.JSONField(default=dict, blank=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "price_rules"
        ordering = ("pk",)
        constraints: ClassVar = [
            models.CheckConstraint(
                name="rule_is_whole",
                condition=models.Q(condition="any")
                | models.Q(condition__in=["gt", "lt"], threshold__isnull=False, threshold__gt=0)
                | models.Q(
                    condition="change_pct",
                    threshold__isnull=False,
                    threshold__gt=0,
                    window_seconds__isnull=False,
                    window_seconds__gte=60,
                ),
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule_id} {','.join(self.symbols)} {self.condition} {self.threshold or ''}".strip()


class RuleMatch(models.Model):
    """A rule's condition held. At most one per rule, symbol and minute."""

    rule = models.ForeignKey(PriceRule, models.CASCADE, related_name="matches")
    symbol = models.CharField(max_length=20)
    price = models.DecimalField(**COLUMN, help_text="USD")
    value = models.DecimalField(**COLUMN, help_text="what was compared: USD, or percent for change_pct")
    at = models.DateTimeField(help_text="when the price was true")
    bucket = models.DateTimeField(help_text="start of the minute")

    class Meta:
        db_table = "rule_matches"
        ordering = ("-at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "symbol", "bucket"], name="one_match_a_minute")
        ]
        indexes = (models.Index(fields=["at"], name="rule_matches_at"),)

    def __str__(self) -> str:
        return f"{self.rule_id} {self.symbol} {self.price.normalize():f}"


class Delivery(models.Model):
    """Somebody is to be told of something by a channel: `maxxit.notify.worker` does it."""

    MOVES = states.DELIVERY

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    channel = models.CharField(max_length=20)
    at = models.DateTimeField()
    state = models.CharField(
        max_length=8,
        default=states.DeliveryState.PENDING,
        db_default=states.DeliveryState.PENDING,
        choices=[(s, s) for s in states.DeliveryState],
        editable=False,
    )
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField(
        db_default=Now(),
        help_text="the next try; while one is under way, when another worker may take it over",
    )
    sent_at = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True, default="", db_default="")

    class Meta:
        abstract = True


class RuleDelivery(Delivery):
    """The user is to be told of a match. At most one per rule, symbol and five minutes, and so many an hour."""

    match = models.OneToOneField(RuleMatch, models.CASCADE, related_name="delivery")
    rule = models.ForeignKey(PriceRule, models.CASCADE, related_name="deliveries")
    symbol = models.CharField(max_length=20)
    bucket = models.DateTimeField(help_text="start of the five minutes")

    class Meta:
        db_table = "rule_deliveries"
        ordering = ("-at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "symbol", "bucket"], name="one_delivery_in_five_minutes")
        ]
        indexes = (
            models.Index(fields=["user", "at"], name="rule_deliveries_user_at"),
            models.Index(fields=["due_at"], name="rule_deliveries_due", condition=models.Q(state="pending")),
            models.Index(fields=["sent_at"], name="rule_deliveries_sent", condition=models.Q(state="sent")),
            models.Index(fields=["id"], name="rule_deliveries_dead", condition=models.Q(state="dead")),
        )

    def __str__(self) -> str:
        return f"{self.rule_id} {self.symbol} by {self.channel}"
