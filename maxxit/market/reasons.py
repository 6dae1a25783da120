"""Reason codes for refused prices and untrusted quotes: what each means, how to change it, and who can. No I/O."""

from maxxit.core.reasons import Audience, CodedReason

FEEDS = "config/feeds.yaml"
STAFF, NOBODY = Audience.STAFF, Audience.NOBODY


class QuoteReason(CodedReason):
    """Why a source's price is refused, or a quote not trusted for entries."""

    NEVER = (
        "never",
        STAFF,
        "no source has given a price yet",
        "the symbol's ids of the feeds in config/feeds.yaml",
    )
    ALL_SOURCES_REFUSED = (
        "all_sources_refused",
        NOBODY,
        "the prices of all sources were refused",
        "nothing: the quote is trusted again once a source sends valid prices",
    )
    SOURCES_DISAGREE = (
        "sources_disagree",
        STAFF,
        "no majority of the sources agrees",
        f"max_deviation_bps in {FEEDS}; the quote is trusted again once the sources agree",
    )
    TOO_FEW_SOURCES = (
        "too_few_sources",
        STAFF,
        "fewer sources agree than required",
        f"min_sources in {FEEDS}; another feed in `order`",
    )
    NOT_POSITIVE = (
        "not_positive",
        NOBODY,
        "the source's price is not positive",
        "nothing: an error of the source",
    )
    OUT_OF_RANGE = (
        "out_of_range",
        NOBODY,
        "the price is outside the possible range",
        "nothing: an error of the source",
    )
    STALE = "stale", STAFF, "the source's price is too old", f"max_age_seconds in {FEEDS}"
    FROM_THE_FUTURE = (
        "from_the_future",
        STAFF,
        "the price's time is ahead of this machine's clock",
        "`manage.py doctor`, line clock",
    )
    NOT_CONFIDENT = (
        "not_confident",
        STAFF,
        "the source's confidence interval is too wide",
        f"max_confidence_bps in {FEEDS}",
    )
    JUMP = (
        "jump",
        STAFF,
        "the price moved further at once than allowed",
        f"max_jump_pct and jump_seconds in {FEEDS}",
    )
    DEVIATES = (
        "deviates",
        STAFF,
        "the price deviates too far from the other sources",
        f"max_deviation_bps in {FEEDS}",
    )
