"""Outcomes of posts: each post has exactly one, the furthest stage it reached towards a trade.

    pending < prefiltered:* = unread:* < not_candidate < no_listed_token < side_contradicted
            < too_many_tokens < candidate:* < signal < traded

The outcome of a candidate without a signal has the reason; of several agents' reasons the one nearest a signal counts.
"""

from collections.abc import Sequence

from django.db.models import QuerySet

from signals_app.models import CtPost
from signals_app.reasons import CandidateReason

STAGES = (
    "pending",
    "prefiltered",
    "unread",
    "not_candidate",
    "no_listed_token",
    "side_contradicted",
    "too_many_tokens",
    "candidate",
    "signal",
    "traded",
)
CANDIDATE_REASONS = tuple(CandidateReason)


def candidate(reason: CandidateReason) -> str:
    """Return the outcome of a candidate that got no signal for `reason`."""
    return f"candidate:{reason}"


def rank(outcome: str) -> int:
    """Return the rank of an outcome; a larger number is nearer to a trade."""
    stage, _, reason = outcome.partition(":")
    within = CANDIDATE_REASONS.index(reason) if stage == "candidate" and reason else 0
    return STAGES.index(stage) * 100 + within


def raise_to(posts: QuerySet[CtPost], outcome: str) -> int:
    """Set `outcome` on those of `posts` that rank below it; returns how many changed."""
    if outcome == STAGES[-1]:  # above all others
        return posts.exclude(outcome=outcome).update(outcome=outcome)
    lower = [known for known in _known(posts) if rank(known) < rank(outcome)]
    return posts.filter(outcome__in=lower).update(outcome=outcome)


def _known(posts: QuerySet[CtPost]) -> Sequence[str]:
    return list(posts.order_by().values_list("outcome", flat=True).distinct())
