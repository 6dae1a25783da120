"""The five-minute bar: what candle files and exchanges give, and what the database keeps."""

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
        """The moment the bar closed; before it, the bar does not exist."""
        return self.open_time + BAR

    @property
    def whole(self) -> bool:
        """Whether its numbers fit together; false for NaN, which compares false."""
        return (
            self.low > 0
            and self.low <= min(self.open, self.close)
            and self.high >= max(self.open, self.close)
        )
