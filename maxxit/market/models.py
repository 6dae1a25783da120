"""Prices as they were seen."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


class Quote(models.Model):
    """The newest accepted price of a symbol. The exit sweep joins this table."""

    symbol = models.CharField(max_length=20, primary_key=True)
    price = models.DecimalField(**COLUMN, help_text="USD")
    at = models.DateTimeField(help_text="when the source says the price was true")
    source = models.CharField(max_length=20)

    class Meta:
        db_table = "quotes"
        ordering = ("symbol",)

    def __str__(self) -> str:
        return f"{self.symbol} {self.price.normalize():f}"


class Candle(models.Model):
    """One five-minute bar. Coarser bars are computed from these."""

    symbol = models.CharField(max_length=20)
    open_time = models.DateTimeField(help_text="start of the bar, UTC; known only after open_time + 5 minutes")
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
