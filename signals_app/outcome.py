"""Each post carries exactly one outcome: the furthest it came on the way to a trade.

    pending < prefiltered:* = unread:* < not_candidate < no_listed_token < side_contradicted
            < too_many_tokens < candidate:* < signal < traded

A candidate that became no signal says why; among several agents the reason that came nearest to a signal wins.
"""

from collections.abc import Sequence

from django.db.models import QuerySet

from signals_app.models import CtPost

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
CANDIDATE_REASONS = (
    "waiting",
    "no_follower",
    "too_old",
    "not_on_venue",
    "no_market_data",
    "no_price",
    "uncorroborated",
    "bucket_taken",
    "deleted",
    "author_cap",
    "token_cap",
    "opposed",
    "shorts_not_supported",
    "below_threshold",
    "model_failed",
    "model_disagrees",
)
"""Why a candidate became no signal, the reason furthest from a signal first."""


def rank(outcome: str) -> int:
    """How far `outcome` is on the way: a larger number is further."""
    stage, _, reason = outcome.partition(":")
    within = CANDIDATE_REASONS.index(reason) if stage == "candidate" and reason else 0
    return STAGES.index(stage) * 100 + within


def raise_to(posts: QuerySet[CtPost], outcome: str) -> int:
    """Move each of `posts` to `outcome` where that is further than where it stands; returns how many moved."""
    lower = [known for known in _known(posts) if rank(known) < rank(outcome)]
    return posts.filter(outcome__in=lower).update(outcome=outcome)


def _known(posts: QuerySet[CtPost]) -> Sequence[str]:
    return list(posts.order_by().values_list("outcome", flat=True).distinct())
