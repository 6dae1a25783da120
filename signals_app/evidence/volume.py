"""Evidence of unusual volume: it supports the direction of the price, fully from three standard deviations. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, bounded


class Volume(Evidence):
    name = "volume"
    help = "unusual volume"

    def of(self, facts: Facts) -> Decimal:
        market = facts.market
        return bounded(market.volume_z / 3) * (1 if market.momentum_pct >= 0 else -1)
