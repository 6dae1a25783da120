"""Calls that a sender states in fields (a signal source): classified as stated, without a reader."""

from collections.abc import Sequence

from maxxit.core.terms import Side
from maxxit.events import wake
from maxxit.events.record import Transition, advance_each
from signals_app.models import CtPost
from signals_app.outcome import candidate
from signals_app.reasons import CandidateReason
from signals_app.sources.base import StatedCall
from signals_app.states import PostState

REASONING = "stated by the sender"


def classify(posts: Sequence[tuple[CtPost, StatedCall]]) -> int:
    """Move new posts with a stated call to `classified`, as candidates; returns how many.

    From there on they are posts like all others: agents follow the account, and every cap, weight and limit holds. The
    call chooses token, side and confidence, never a size, an address or a gate. The caller holds a transaction and the
    posts' locks.
    """
    moved = advance_each([_transition(post, call) for post, call in posts], locked=True)
    for one in moved:
        one.apply()
    if moved:
        wake.after_commit("stage.classify")
    return len(moved)


def _transition(post: CtPost, call: StatedCall) -> Transition:
    return Transition(
        post,
        PostState.CLASSIFIED,
        fields={
            "is_signal_candidate": True,
            "tokens": [call.token],
            "sides": {call.token: call.side},
            "sentiment": "bullish" if call.side == Side.LONG else "bearish",
            "confidence": call.confidence,
            "reasoning": REASONING,
            "outcome": candidate(CandidateReason.WAITING),
        },
        data={"sides": {call.token: call.side}, "confidence": f"{call.confidence:f}", "stated": True},
    )
