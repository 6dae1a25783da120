"""What a piece of evidence is, and the facts that it may use. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Protocol

from agents.evidence import EVIDENCE
from maxxit.core.terms import SIGN
from maxxit.market.bars import Snapshot

MIN_CONFIDENCE, MAX_CONFIDENCE = Decimal("0.3"), Decimal("0.95")


@dataclass(frozen=True, slots=True)
class Call:
    """A candidate post's call on one token."""

    post: int
    side: str
    """long or short."""
    confidence: Decimal
    """Fraction."""
    impact: Decimal
    """Fraction: the author's impact factor; 0.5 is neutral."""
    author: int
    reactions: int | None = None
    """Likes, reposts, replies and quotes of the post when it was delivered; None where its source gives no figures."""


@dataclass(frozen=True, slots=True)
class SocialFigures:
    """Social metrics of a token."""

    galaxy_score: Decimal
    """0 to 100."""
    sentiment_pct: Decimal
    """Percent of positive posts."""
    volume_change_pct: Decimal
    """Percent of change in 24 hours, of the number of posts."""
    price_change_pct: Decimal
    """Percent in 24 hours."""
    alt_rank: int
    """1 is the best."""


@dataclass(frozen=True, slots=True)
class ReturnForecast:
    """The return of a token as the direction model that serves forecasts it."""

    mean: Decimal
    """Expected return over the model's horizon, a fraction."""
    sigma: Decimal
    """Standard deviation of that return, a fraction; above 0."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one token when an agent decides on it."""

    market: Snapshot
    calls: Sequence[Call] = ()
    """Calls by the accounts that the agent follows, within its limits; none where posts have no weight."""
    social: SocialFigures | None = None
    forecast: ReturnForecast | None = None
    """None where no direction model serves, or its forecast cannot be used."""


class Evidence(Protocol):
    """One piece of evidence. A subclass gives `name`, `help` and `of`; the rest has a default."""

    name: str
    """As in the agent's `weights`."""
    help: str
    """Completes "0 to 100: how much … counts" in the agent's form."""
    required: bool = False
    """Whether an agent that gives it a weight makes no signal where it has no value."""
    directional: bool = True
    """Whether it supports a side. One that does not, such as volatility, counts against both sides by its value."""

    def of(self, facts: Facts) -> Decimal | None:
        """Return the evidence in [-1, 1]: positive for long, negative for short. None: no value, counts as 0."""
        ...

    def support(self, facts: Facts, value: float, side: str) -> float:
        """Return how far evidence of `value` supports a trade on `side`: a fraction, 0.5 is undecided."""
        return (1 + value * (SIGN[side] if self.directional else -1)) / 2


def bounded(value: float) -> Decimal:
    """Return the value held within [-1, 1], exactly as the float has it."""
    return Decimal(max(-1.0, min(1.0, value)))


def atr_pct(market: Snapshot) -> float:
    """Return the average true range in percent of the price, at least 0.01: some pieces divide by it."""
    return max(market.atr_pct, 0.01)


@cache
def pieces() -> tuple[Evidence, ...]:
    """Return every registered piece of evidence, in the order of the registry."""
    return tuple(EVIDENCE.open(name) for name in EVIDENCE)
