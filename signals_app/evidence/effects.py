"""Describe what each piece of evidence did to a decision, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from maxxit.core.terms import SIGN
from signals_app.evidence.base import Evidence, pieces

SCALE = "Evidence, each from −1 (fully short) to +1 (fully long)"


@dataclass(frozen=True, slots=True)
class Effect:
    """One piece of evidence of a decision."""

    name: str
    """As in the agent's weights."""
    title: str
    value: float
    """-1 to 1; positive supports long."""
    weight: int
    total: int
    """Sum of all weights of the agent."""
    speaks: str
    """For or against what it speaks."""
    points: float | None
    """Percentage points that it adds to the confidence against undecided evidence (0.5); None where that depends on
    more than its value, as for posts."""

    def __str__(self) -> str:
        text = (
            f"{self.title}: {self.value:+.2f}, weight {self.weight} of {self.total} in all, {self.speaks}"
        ).replace("-", "−")
        if self.points is None or not round(self.points, 1):
            return text
        change = "adds" if self.points > 0 else "takes"
        return f"{text}, {change} {abs(self.points):.1f} points of confidence"


def effects(evidence: Mapping[str, float], weights: Mapping[str, int], side: str) -> list[Effect]:
    """Return the effect of each weighted piece of evidence on a trade on `side`, in the order of the registry.

    Args:
        evidence: piece -> [-1, 1], as stored with a signal.
        weights: piece -> 0 to 100, the agent's at the decision.
    """
    total = sum(weights.values())
    known = {piece.name: piece for piece in pieces()}
    names = [*known, *(name for name in evidence if name not in known)]
    rows = []
    for name in names:
        value, weight, piece = evidence.get(name), weights.get(name, 0), known.get(name)
        if value is None or not weight:
            continue
        title = piece.help.partition(",")[0] if piece else f"{name.replace('_', ' ')} (no longer in use)"
        support = value * (SIGN[side] if piece is None or piece.directional else -1)
        linear = piece is not None and type(piece).support is Evidence.support
        rows.append(
            Effect(
                name, title[:1].upper() + title[1:], value, weight, total,
                _speaks(support, side, piece is None or piece.directional),
                support / 2 * weight / total * 100 if linear else None,
            )
        )  # fmt: skip
    return rows


def _speaks(support: float, side: str, directional: bool) -> str:
    if not support:
        return "speaks for neither side" if directional else "speaks against nothing"
    if not directional:
        return "speaks against any trade"
    return f"speaks {'for' if support > 0 else 'against'} this {side}"
