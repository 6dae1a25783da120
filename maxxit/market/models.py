"""Quotes, candles and rejected prices, as received."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


class Quote(models.Model):
    """The newest accepted price of a symbol. The exit sweep joins this table."""

    symbol = models.CharField(max_length=20, primary_key=True)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="UTC; time of the price, as stated by the source")
    source = models.CharField(max_length=20)
    trusted_for_entries = models.BooleanField(
        default=True,
        db_default=True,
        help_text="off: the price is used for exits and valuation only",
    )
    doubt = models.CharField(
        max_length=30,
        blank=True,
        default="",
        db_default="",
        help_text="reason why it is not trusted for entries",
    )

    class Meta:
        db_table = "quotes"
        ordering = ("symbol",)

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f}"


class FundingRate(models.Model):
    """The newest funding rate of a symbol's perpetual future at one source."""

    symbol = models.CharField(max_length=20)
    source = models.CharField(max_length=20)
    rate_pct = models.DecimalField(
        **COLUMN, help_text="percent of the position's value for eight hours; positive: longs pay shorts"
    )
    at = models.DateTimeField(help_text="UTC; when it was read")

    class Meta:
        db_table = "funding_rates"
        ordering = ("symbol", "source")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["symbol", "source"], name="one_funding_rate")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.rate_pct.normalize():f} % ({self.source})"


class SourceQuote(models.Model):
    """The newest valid price of a symbol from one source."""

    symbol = models.CharField(max_length=20)
    source = models.CharField(max_length=20)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="UTC; time of the price, as stated by the source")
    confidence = models.DecimalField(
        **COLUMN, null=True, help_text="USD; half-width of the confidence interval, if the source states one"
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
    """A rejected price. One row per symbol, source, reason and hour, so that a broken feed cannot fill the table."""

    symbol = models.CharField(max_length=20)
    source = models.CharField(max_length=20)
    reason = models.CharField(
        max_length=20,
        help_text="not_positive, out_of_range, stale, from_the_future, not_confident, jump or deviates",
    )
    hour = models.DateTimeField(help_text="start of the hour, UTC")
    price = models.CharField(
        max_length=60, help_text="USD; the latest rejected price as received, may be NaN"
    )
    value = models.CharField(max_length=80, help_text="latest measured value")
    limit = models.CharField(max_length=40, help_text="allowed value")
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
    """One one-minute bar formed from live ticks, for charts and price rules. Partitioned by month."""

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
    """The indicators of a symbol over the bars closed by `until`. Signals refer to the snapshot they used."""

    symbol = models.CharField(max_length=20)
    window_start = models.DateTimeField(
        help_text="UTC; start of the six-hour window in which it was computed"
    )
    until = models.DateTimeField(help_text="UTC; end of the newest bar used")
    terms = models.CharField(max_length=60, help_text="width and number of the bars")
    figures = models.JSONField(help_text="every field of maxxit.market.indicators.Snapshot, unrounded")
    made_at = models.DateTimeField()
    superseded = models.BooleanField(
        default=False, help_text="bars were added later: later decisions use a new snapshot"
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
    """The checkpoint of a backfill, from which the same command resumes."""

    feed = models.CharField(max_length=20)
    symbol = models.CharField(max_length=20)
    begins = models.DateTimeField(help_text="UTC, inclusive")
    ends = models.DateTimeField(help_text="UTC, exclusive")
    done_until = models.DateTimeField(
        help_text="UTC; every bar opened before this is stored or does not exist"
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
    at = models.DateTimeField(help_text="UTC; time of the price, as stated by the source")
    accepted_at = models.DateTimeField(help_text="UTC; rules created later are not matched against it")

    class Meta:
        db_table = "quote_moves"
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f}"


class MarketSession(models.Model):
    """One session of the New York stock exchange, as a broker publishes it. Only `maxxit.market.calendar` writes it."""

    day = models.DateField(primary_key=True, help_text="in New York")
    opens_at = models.DateTimeField(help_text="UTC")
    closes_at = models.DateTimeField(help_text="UTC; earlier than 16:00 in New York on a short day")

    class Meta:
        db_table = "market_sessions"
        ordering = ("day",)

    def __str__(self) -> str:
        return f"{self.day}: {self.opens_at:%H:%M} to {self.closes_at:%H:%M} UTC"


class CalendarCoverage(models.Model):
    """The single row that says for which days the stored sessions are complete: other days of it are closed."""

    first_day = models.DateField()
    last_day = models.DateField()
    read_at = models.DateTimeField(help_text="UTC; when the broker's calendar was last read")

    class Meta:
        db_table = "market_calendar_coverage"

    def __str__(self) -> str:
        return f"{self.first_day} to {self.last_day}, read {self.read_at:%Y-%m-%d %H:%M} UTC"
