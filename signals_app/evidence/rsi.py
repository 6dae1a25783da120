"""Evidence of the relative strength index: 30 is fully long, 70 fully short. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, bounded


class RelativeStrength(Evidence):
    name = "rsi"
    help = "the relative strength index"

    def of(self, facts: Facts) -> Decimal:
        return bounded((50 - facts.market.rsi) / 20)
