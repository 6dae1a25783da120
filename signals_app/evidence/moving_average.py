"""Evidence of the trend: the fast average one average true range above the slow one is fully long. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, atr_pct, bounded


class MovingAverages(Evidence):
    name = "moving_average"
    help = "the trend of the moving averages"

    def of(self, facts: Facts) -> Decimal:
        market = facts.market
        return bounded((market.fast_average / market.slow_average - 1) * 100 / atr_pct(market))
