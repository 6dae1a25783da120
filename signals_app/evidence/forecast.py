"""Evidence of the direction model that serves: by how much a rise is more probable than a fall. Pure.

The return over the model's horizon counts as normally distributed, as in `maxxit.learning.forecasters`, so that the
support of a long is the probability of a rise, and that of a short the probability of a fall.
"""

from decimal import Decimal
from math import erf, sqrt

from agents.evidence import FORECAST
from signals_app.evidence.base import Evidence, Facts, bounded


class ForecastReturn(Evidence):
    name = FORECAST
    help = "the forecast of the direction model that serves"

    def of(self, facts: Facts) -> Decimal | None:
        """Return the probability of a rise less that of a fall; None without a usable forecast."""
        found = facts.forecast
        return None if found is None else bounded(erf(float(found.mean / found.sigma) / sqrt(2)))
