"""Evidence of the Bollinger bands: the lower band is fully long, the upper one fully short. Pure."""

from decimal import Decimal

from signals_app.evidence.base import Evidence, Facts, bounded


class BollingerBands(Evidence):
    name = "bollinger"
    help = "the place within the Bollinger bands"

    def of(self, facts: Facts) -> Decimal:
        return bounded(1 - 2 * facts.market.bollinger_b)
