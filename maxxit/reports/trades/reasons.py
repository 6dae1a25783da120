"""All reason codes of posts, signals, orders, prices, forecasts: what each means, how to change it, who can. No I/O.

The reasons stand beside the checks: `signals_app/reasons.py`, `trading/reasons.py`, `maxxit/market/reasons.py`,
`maxxit/learning/reasons.py`.
`manage.py why --list` prints the table of docs/runbook.md.
"""

from collections.abc import Iterable, Mapping

from maxxit.core.reasons import Audience, CodedReason
from maxxit.learning.reasons import NoForecast
from maxxit.market.reasons import QuoteReason
from signals_app.reasons import CandidateReason, PostReason, PrefilterReason
from trading.reasons import Reason


def _codes(reasons: Iterable[CodedReason], stage: str = "") -> dict[str, CodedReason]:
    return {f"{stage}:{reason}" if stage else reason.value: reason for reason in reasons}


POSTS: Mapping[str, CodedReason] = {
    **_codes(PostReason),
    **_codes(PrefilterReason, "prefiltered"),
    **_codes(CandidateReason, "candidate"),
}
"""Stored outcome of a post -> its reason."""
ORDERS: Mapping[str, CodedReason] = _codes(Reason)
QUOTES: Mapping[str, CodedReason] = _codes(QuoteReason, "quote")
FORECASTS: Mapping[str, CodedReason] = _codes(NoForecast, "forecast")
REASONS: Mapping[str, CodedReason] = {**POSTS, **ORDERS, **QUOTES, **FORECASTS}
"""Code, with its stage where it has one -> reason."""
OF_THE_VENUE = "a reason given by the venue itself", "the venue's documentation and status page"


SENTENCES = frozenset({Reason.MARKET_CLOSED})
"""Codes that are stored with a sentence in place of a measured value."""


def explain(code: str) -> tuple[str, str, Audience]:
    """Return the meaning of a reason, what changes it and who can. Unknown codes are taken for the venue's own."""
    reason = REASONS.get(code) or REASONS.get(code.partition(":")[0])
    return (reason.text, reason.fix, reason.audience) if reason else (*OF_THE_VENUE, Audience.STAFF)


def in_words(code: str, meaning: str, measured: str, limit: str) -> tuple[str, str]:
    """Return meaning and measured value of a reason whose detail is a sentence (a closed market): it is the meaning."""
    return (measured, "") if code in SENTENCES and measured and not limit else (meaning, measured)


def markdown() -> str:
    """Return all reasons as a table."""
    rows = (f"| `{code}` | {one.text} | {one.fix} | {one.audience} |" for code, one in REASONS.items())
    return "\n".join(("| reason | it means | what changes it | who can |", "|---|---|---|---|", *rows))


def as_json() -> list[dict[str, str]]:
    """Return all reasons for `--json`."""
    return [
        {"code": code, "meaning": one.text, "change": one.fix, "audience": one.audience}
        for code, one in REASONS.items()
    ]
