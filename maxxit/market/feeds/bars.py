"""The five-minute bar of candle files, exchanges and the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

BAR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Bar:
    """One five-minute candle, prices in USD."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def known_at(self) -> datetime:
        """Return when the bar closed, UTC; nothing may use it earlier."""
        return self.open_time + BAR

    @property
    def fault(self) -> str:
        """Return what is wrong with its numbers, or an empty string."""
        prices = (self.open, self.high, self.low, self.close)
        if not all(number.is_finite() for number in (*prices, self.volume)):
            return "a number is not finite"
        if min(prices) <= 0:
            return "a price is not positive"
        if self.volume < 0:
            return "the volume is negative"
        if self.low > min(self.open, self.close) or self.high < max(self.open, self.close):
            return "low, open, close and high do not fit"
        if self.open_time.timestamp() % BAR.total_seconds():
            return "it does not open on a full five minutes"
        return ""

    @property
    def whole(self) -> bool:
        """Return whether its numbers are consistent."""
        return not self.fault
