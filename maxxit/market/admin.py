"""Admin of quotes, candles, rejected prices, snapshots and backfills, read-only."""

from datetime import timedelta

from django.contrib import admin
from unfold.decorators import display

from maxxit.adminkit import LargeTableAdmin, ReadOnlyAdmin, RecentValues, number_column
from maxxit.core import clock
from maxxit.market import quotes
from maxxit.market.models import (
    BackfillMark,
    CalendarCoverage,
    Candle,
    FundingRate,
    MarketSession,
    MarketSnapshot,
    Quote,
    RefusedQuote,
    SourceQuote,
)


@admin.register(Quote)
class QuoteAdmin(ReadOnlyAdmin):
    """The newest price of each symbol, and whether it may be used."""

    list_display = ("symbol", "price_usd", "at", "age", "usable", "trusted_for_entries", "doubt", "source")
    list_filter = ("source", "trusted_for_entries")
    search_fields = ("symbol__iexact",)
    price_usd = number_column("price", "price (USD)")

    @display(description="age", ordering="-at")
    def age(self, row: Quote) -> str:
        return str(timedelta(seconds=round((clock.now() - row.at).total_seconds())))

    @display(description="usable", label={"yes": "success", "stale": "danger"})
    def usable(self, row: Quote) -> str:
        """Return `yes`, or why the quote is not used for entries or exits (`max_age_seconds` in config/feeds.yaml)."""
        return quotes.unusable(row.price, row.at, clock.now()) or "yes"


@admin.register(Candle)
class CandleAdmin(LargeTableAdmin):
    list_display = ("symbol", "open_time", "open_usd", "high_usd", "low_usd", "close_usd", "volume_tokens")
    list_filter = (("symbol", RecentValues),)
    search_fields = ("symbol__iexact",)
    ordering = ("-open_time", "symbol")
    open_usd = number_column("open")
    high_usd = number_column("high")
    low_usd = number_column("low")
    close_usd = number_column("close")
    volume_tokens = number_column("volume")


@admin.register(SourceQuote)
class SourceQuoteAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "source", "price_usd", "at", "received_at")
    list_filter = ("source", "symbol")
    search_fields = ("symbol__iexact", "source")
    price_usd = number_column("price", "price (USD)")


@admin.register(FundingRate)
class FundingRateAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "source", "rate", "at")
    list_filter = ("source", "symbol")
    search_fields = ("symbol__iexact", "source")
    rate = number_column("rate_pct", "rate of 8 hours (%)")


@admin.register(RefusedQuote)
class RefusedQuoteAdmin(LargeTableAdmin):
    list_display = ("last_at", "symbol", "source", "reason", "value", "limit", "price", "times")
    list_filter = (("reason", RecentValues), ("source", RecentValues), ("symbol", RecentValues))
    search_fields = ("symbol__iexact", "source", "reason")


@admin.register(MarketSnapshot)
class MarketSnapshotAdmin(LargeTableAdmin):
    list_display = ("symbol", "until", "window_start", "terms", "superseded", "made_at")
    list_filter = (("symbol", RecentValues), "superseded")
    search_fields = ("symbol__iexact",)


@admin.register(BackfillMark)
class BackfillMarkAdmin(ReadOnlyAdmin):
    list_display = ("feed", "symbol", "begins", "ends", "done_until", "bars", "updated_at")
    list_filter = ("feed", "symbol")
    search_fields = ("symbol__iexact", "feed")


@admin.register(MarketSession)
class MarketSessionAdmin(ReadOnlyAdmin):
    """Sessions of the New York stock exchange. Times are UTC."""

    list_display = ("day", "opens_at", "closes_at")
    ordering = ("-day",)


@admin.register(CalendarCoverage)
class CalendarCoverageAdmin(ReadOnlyAdmin):
    """For which days the stored sessions are complete."""

    list_display = ("first_day", "last_day", "read_at")
