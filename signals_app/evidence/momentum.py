"""Evidence of momentum: a rise by five average true ranges is fully long. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, atr_pct, bounded


class Momentum(Evidence):
    name = "momentum"
    help = "momentum"

    def of(self, facts: Facts) -> Decimal:
        return bounded(facts.market.momentum_pct / (5 * atr_pct(facts.market)))
