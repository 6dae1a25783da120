"""Evidence of volatility: 0 to 1 against any trade. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, bounded

CALM_ATR_PCT, WILD_ATR_PCT = 1.0, 5.0
"""Average true range in percent of the price: up to the first volatility counts nothing, from the second on in full."""


class Volatility(Evidence):
    name = "volatility"
    help = "volatility, which speaks against any trade"
    directional = False

    def of(self, facts: Facts) -> Decimal:
        return max(Decimal(0), bounded((facts.market.atr_pct - CALM_ATR_PCT) / (WILD_ATR_PCT - CALM_ATR_PCT)))
