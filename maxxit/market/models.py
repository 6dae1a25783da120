"""Quotes, candles and rejected prices, as received."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


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


class QuoteMove(models.Model):
    """A price that became its symbol's quote, queued until price rules have been matched against it.

    The transaction that stores the price inserts the row, the transaction that matches price rules deletes it: a
    process that dies in between delays matching but loses no price.
    """

    symbol = models.CharField(max_length=20)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="when the source says the price was true")
    accepted_at = models.DateTimeField(help_text="rules created later are not matched against it")

    class Meta:
        db_table = "quote_moves"
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f}"
