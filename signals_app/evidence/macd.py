"""Evidence of the MACD histogram: a quarter of the average true range is fully long. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, atr_pct, bounded


class Macd(Evidence):
    name = "macd"
    help = "the MACD histogram"

    def of(self, facts: Facts) -> Decimal:
        market = facts.market
        return bounded(market.macd_histogram / market.close * 100 / atr_pct(market) * 4)
