"""Prices as they were seen. Read-only."""

from datetime import timedelta

from django.contrib import admin
from unfold.decorators import display

from maxxit.core import clock
from maxxit.events.admin_links import Book, number_column
from maxxit.market import quotes
from maxxit.market.models import Candle, Quote


@admin.register(Quote)
class QuoteAdmin(Book):
    """The newest price of each symbol, and whether it may be used."""

    list_display = ("symbol", "price_usd", "at", "age", "usable", "source")
    list_filter = ("source",)
    search_fields = ("symbol__iexact",)
    price_usd = number_column("price", "price (USD)")

    @display(description="age", ordering="-at")
    def age(self, row: Quote) -> str:
        """Seconds since the source says it was true."""
        return str(timedelta(seconds=round((clock.now() - row.at).total_seconds())))

    @display(description="usable", label={"yes": "success", "stale": "danger"})
    def usable(self, row: Quote) -> str:
        """Yes, or why it opens and closes nothing (`max_age_seconds` in config/feeds.yaml)."""
        return quotes.unusable(row.price, row.at, clock.now()) or "yes"


@admin.register(Candle)
class CandleAdmin(Book):
    """Five-minute bars."""

    list_display = ("symbol", "open_time", "open_usd", "high_usd", "low_usd", "close_usd", "volume_tokens")
    list_filter = ("symbol",)
    search_fields = ("symbol__iexact",)
    date_hierarchy = "open_time"
    ordering = ("-open_time", "symbol")
    open_usd = number_column("open")
    high_usd = number_column("high")
    low_usd = number_column("low")
    close_usd = number_column("close")
    volume_tokens = number_column("volume")
