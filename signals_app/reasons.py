"""Reason codes for posts that did not become a signal: what each means, how to change it, and who can. No I/O."""

from maxxit.core.reasons import Audience, CodedReason

CUSTOMER, STAFF, NOBODY = Audience
SIGNALS, MARKETS = "config/signals.yaml", "config/markets.yaml"


class PostReason(CodedReason):
    """Why a post is no candidate: its outcome (`signals_app.outcome`)."""

    PENDING = (
        "pending",
        NOBODY,
        "the post has not been classified yet",
        "wait for the next classify pass, or run `manage.py pipeline stage classify`",
    )
    UNREAD = (
        "unread",
        STAFF,
        "no model could read the post",
        "`manage.py doctor`, lines model:…; the classify sweep retries the post",
    )
    NOT_CANDIDATE = (
        "not_candidate",
        STAFF,
        "the model found no call to buy or sell in the post",
        "the prompt and provider in config/llm.yaml",
    )
    TOO_MANY_TOKENS = (
        "too_many_tokens",
        STAFF,
        "the post calls more than three tokens, which counts as no call",
        "MAX_TOKENS in signals_app/verify.py",
    )
    SIDE_CONTRADICTED = (
        "side_contradicted",
        STAFF,
        "the model's side contradicts what the author says of the position (a close opens nothing)",
        "the prompt in config/prompts/classify.md, the grammar in signals_app/reading/rules/positions.py",
    )
    NO_LISTED_TOKEN = (
        "no_listed_token",
        STAFF,
        "the post is a call, but on no listed token",
        f"instruments and aliases in {MARKETS}",
    )


class PrefilterReason(CodedReason):
    """Why no model needed to see a post; stored as `prefiltered:…`."""

    EMPTY = "empty", NOBODY, "the post has no text besides links and names", "nothing to change"
    CHATTER = (
        "chatter",
        STAFF,
        "the post is a greeting or small talk",
        "the word list in signals_app/prefilter.py",
    )
    DELETED = "deleted", NOBODY, "the author deleted the post before it was read", "nothing to change"
    NO_CALL_EXPECTED = (
        "no_call_expected",
        STAFF,
        "the screening expects no call in the post, so that no paid model was asked",
        f"`classify.screening` in {SIGNALS}",
    )
    TOO_SHORT = "too_short", STAFF, "the post is short and names no listed token", f"aliases in {MARKETS}"


class CandidateReason(CodedReason):
    """Why a candidate got no signal, the furthest from a signal first; stored as `candidate:…`."""

    WAITING = (
        "waiting",
        NOBODY,
        "no agent has decided on this call yet",
        "wait for the next generate pass, or run `manage.py pipeline stage generate`",
    )
    NO_FOLLOWER = (
        "no_follower",
        CUSTOMER,
        "no active agent follows the author",
        "follow the author with an agent: the page Start, or `POST /api/agents/{id}/follows`",
    )
    TOO_OLD = (
        "too_old",
        STAFF,
        "the post was too old when it arrived, or no decision was made in time",
        f"generate.max_post_age_hours and lookback_hours in {SIGNALS}",
    )
    NOT_ON_VENUE = (
        "not_on_venue",
        CUSTOMER,
        "the agents that follow the author do not trade the token",
        "the agent's tokens or its venue: `PATCH /api/agents/{id}`, or start another agent",
    )
    NO_MARKET_DATA = (
        "no_market_data",
        STAFF,
        "there are too few closed candles for the indicators",
        f"generate.warm_up_bars in {SIGNALS}; `manage.py doctor`, line candles",
    )
    NO_PRICE = (
        "no_price",
        STAFF,
        "there is no fresh quote of the token",
        "max_age_seconds and feeds in config/feeds.yaml",
    )
    UNCORROBORATED = (
        "uncorroborated",
        STAFF,
        "the token is illiquid, and fewer than two authors call it",
        f"`illiquid` of the token in {MARKETS}",
    )
    BUCKET_TAKEN = (
        "bucket_taken",
        STAFF,
        "the agent already has a signal for this token in this period, and makes one a period",
        f"generate.bucket_hours in {SIGNALS}",
    )
    DELETED = "deleted", NOBODY, "the author deleted the post", "nothing to change"
    AUTHOR_CAP = (
        "author_cap",
        STAFF,
        "the author has caused the agent's maximum of signals today (UTC)",
        f"generate.max_signals_per_author_per_day in {SIGNALS}",
    )
    TOKEN_CAP = (
        "token_cap",
        STAFF,
        "the agent has its maximum of signals on this token today (UTC)",
        f"generate.max_signals_per_token_per_day in {SIGNALS}",
    )
    OPPOSED = (
        "opposed",
        CUSTOMER,
        "the indicators and other posts outweighed this call",
        "the agent's weights: `PATCH /api/agents/{id}`",
    )
    SHORTS_NOT_SUPPORTED = (
        "shorts_not_supported",
        STAFF,
        "the call is a short, and the venue does not support shorts",
        "`shorts` of the venue in config/venues.yaml",
    )
    BELOW_THRESHOLD = (
        "below_threshold",
        CUSTOMER,
        "the confidence is below the agent's minimum",
        "the agent's min_confidence: `PATCH /api/agents/{id}`",
    )
    MODEL_FAILED = (
        "model_failed",
        STAFF,
        "the proposing model gave no usable answer",
        f"generate.proposer in {SIGNALS}; config/llm.yaml",
    )
    MODEL_DISAGREES = (
        "model_disagrees",
        STAFF,
        "the proposing model rejected the trade",
        f"generate.proposer in {SIGNALS}",
    )
