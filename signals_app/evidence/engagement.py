"""Evidence of reactions: the direction of the calls, each by how many people reacted to it. Pure.

Reactions are counted when a post is first delivered, so a fresh post has few. No edge of them was measured: a new agent
gives them no weight.
"""

from decimal import Decimal

from maxxit.core.terms import SIGN
from signals_app.evidence.base import Evidence, Facts
from signals_app.evidence.posts import weight

FULL = 10_000
"""Reactions from which a call counts fully; each factor of ten below counts a quarter less."""


class Engagement(Evidence):
    name = "engagement"
    help = "reactions to what the followed accounts say"

    def of(self, facts: Facts) -> Decimal | None:
        """Return the mean direction of the calls with known reactions; None without any."""
        known = [(call, call.reactions) for call in facts.calls if call.reactions is not None]
        if not known:
            return None
        lean = sum((SIGN[call.side] * weight(call) * reach(count) for call, count in known), Decimal(0))
        return max(Decimal(-1), min(Decimal(1), lean / len(known)))


def reach(reactions: int) -> Decimal:
    """Return how much a number of reactions counts, 0 (none) to 1 (`FULL`), by its logarithm."""
    return min(Decimal(1), Decimal(1 + reactions).log10() / Decimal(FULL).log10())
