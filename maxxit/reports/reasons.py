"""Coded reasons of posts, signals, orders and prices: what each means, and which setting or step changes it. Pure."""

RISK, SIGNALS, MARKETS = "config/risk.yaml", "config/signals.yaml", "config/markets.yaml"
CHAINS = "config/chains.yaml"
_SIGN = "`manage.py safe plan`, signed by the Safe's owners"
_TIERS = f"fee_tiers in {CHAINS}, then a new plan; the pool's liquidity"
_BOTH = "{name} under account: or platform: in config/risk.yaml, whichever equals the shown limit"


def _limit(name: str) -> str:
    return _BOTH.format(name=name)


REASONS: dict[str, tuple[str, str]] = {
    # posts
    "pending": (
        "the post has not been classified yet",
        "wait for the next classify pass, or run `manage.py pipeline stage classify`",
    ),
    "prefiltered:empty": ("the post has no text besides links and names", "nothing to change"),
    "prefiltered:chatter": (
        "the post is a greeting or small talk",
        "the word list in signals_app/prefilter.py",
    ),
    "prefiltered:deleted": ("the author deleted the post before it was read", "nothing to change"),
    "prefiltered:too_short": ("the post is short and names no listed token", f"aliases in {MARKETS}"),
    "unread": (
        "no model could read the post",
        "`manage.py doctor`, lines model:…; the classify sweep retries the post",
    ),
    "not_candidate": (
        "the model found no call to buy or sell in the post",
        "the prompt and provider in config/llm.yaml",
    ),
    "too_many_tokens": (
        "the post calls more than three tokens, which counts as no call",
        "MAX_TOKENS in signals_app/verify.py",
    ),
    "side_contradicted": (
        "the model's side contradicts what the author says of the position (a close opens nothing)",
        "the prompt in config/prompts/classify.md, the grammar in signals_app/reading/rules/positions.py",
    ),
    "no_listed_token": (
        "the post is a call, but on no listed token",
        f"instruments and aliases in {MARKETS}",
    ),
    "candidate:waiting": (
        "no agent has decided on this call yet",
        "wait for the next generate pass, or run `manage.py pipeline stage generate`",
    ),
    "candidate:no_follower": (
        "no active agent follows the author",
        "the agent's subscriptions, in the admin",
    ),
    "candidate:too_old": (
        "the post was too old when it arrived, or no decision was made in time",
        f"generate.max_post_age_hours and lookback_hours in {SIGNALS}",
    ),
    "candidate:not_on_venue": (
        "the agents that follow the author do not trade the token",
        f"the agent's tokens, in the admin; venues in {MARKETS}",
    ),
    "candidate:no_market_data": (
        "there are too few closed candles for the indicators",
        f"generate.warm_up_bars in {SIGNALS}; `manage.py doctor`, line candles",
    ),
    "candidate:no_price": (
        "there is no fresh quote of the token",
        "max_age_seconds and feeds in config/feeds.yaml",
    ),
    "candidate:uncorroborated": (
        "the token is illiquid, and fewer than two authors call it",
        f"`illiquid` of the token in {MARKETS}",
    ),
    "candidate:bucket_taken": (
        "the agent already has a signal for this token in this bucket",
        f"generate.bucket_hours in {SIGNALS}",
    ),
    "candidate:deleted": ("the author deleted the post", "nothing to change"),
    "candidate:author_cap": (
        "the author has caused the agent's maximum of signals today (UTC)",
        f"generate.max_signals_per_author_per_day in {SIGNALS}",
    ),
    "candidate:token_cap": (
        "the agent has its maximum of signals on this token today (UTC)",
        f"generate.max_signals_per_token_per_day in {SIGNALS}",
    ),
    "candidate:opposed": (
        "the indicators and other posts outweighed this call",
        "the agent's weights, in the admin",
    ),
    "candidate:shorts_not_supported": (
        "the call is a short, and the venue does not support shorts",
        "`shorts` of the venue in config/venues.yaml",
    ),
    "candidate:below_threshold": (
        "the confidence is below the agent's minimum",
        "the agent's min_confidence, in the admin",
    ),
    "candidate:model_failed": (
        "the proposing model gave no usable answer",
        f"generate.proposer in {SIGNALS}; config/llm.yaml",
    ),
    "candidate:model_disagrees": (
        "the proposing model rejected the trade",
        f"generate.proposer in {SIGNALS}",
    ),
    # signals
    "not_in_time": ("the signal expired before it was executed", f"generate.signal_ttl_hours in {SIGNALS}"),
    "no_active_deployment": ("the agent has no active deployment", "activate a deployment in the admin"),
    # orders, in the order of the checks
    "gate_unreadable": ("the gate could not be read", "`manage.py doctor`"),
    "dry_run": (
        "dry run is on for the venue: the order was decided and not sent",
        "`manage.py paper on` for paper venues; docs/runbook.md for real money",
    ),
    "not_approved": (
        "no approval of the venue is in force",
        "`manage.py approve VENUE --hours N --reason …`",
    ),
    "kill_switch": (
        "the kill switch is latched",
        "`manage.py resume --reason …`, or Stop → Release in the admin",
    ),
    "duplicate_idempotency_key": (
        "the same intent was sent before",
        "nothing to change: the check prevents duplicate orders",
    ),
    "throttles_unreadable": ("the order counts could not be read", "`manage.py doctor`"),
    "rate_limit": ("too many entries within a minute", _limit("max_orders_per_minute")),
    "max_symbol_orders": (
        "too many entries in this symbol today (UTC)",
        f"account.max_orders_per_symbol_per_day in {RISK}",
    ),
    "max_open_orders": ("too many entries in flight", _limit("max_open_orders")),
    "cooldown": (
        "the last entry in this symbol is too recent",
        f"account.cooldown_seconds_per_symbol in {RISK}",
    ),
    "no_price": ("there is no fresh quote", "max_age_seconds and feeds in config/feeds.yaml"),
    # prices, for `why --symbol` and for orders that lacked a price
    "quote:never": ("no source has given a price yet", "the symbol's ids of the feeds in config/feeds.yaml"),
    "quote:all_sources_refused": (
        "the prices of all sources were refused",
        "nothing: the quote is trusted again once a source sends valid prices",
    ),
    "quote:sources_disagree": (
        "no majority of the sources agrees",
        "max_deviation_bps in config/feeds.yaml; the quote is trusted again once the sources agree",
    ),
    "quote:too_few_sources": (
        "fewer sources agree than required",
        "min_sources in config/feeds.yaml; another feed in `order`",
    ),
    "quote:not_positive": ("the source's price is not positive", "nothing: an error of the source"),
    "quote:out_of_range": ("the price is outside the possible range", "nothing: an error of the source"),
    "quote:stale": ("the source's price is too old", "max_age_seconds in config/feeds.yaml"),
    "quote:from_the_future": (
        "the price's time is ahead of this machine's clock",
        "`manage.py doctor`, line clock",
    ),
    "quote:not_confident": (
        "the source's confidence interval is too wide",
        "max_confidence_bps in config/feeds.yaml",
    ),
    "quote:jump": (
        "the price moved further at once than allowed",
        "max_jump_pct and jump_seconds in config/feeds.yaml",
    ),
    "quote:deviates": (
        "the price deviates too far from the other sources",
        "max_deviation_bps in config/feeds.yaml",
    ),
    "exposure_unreadable": (
        "the exposure could not be computed: a held token has no quote",
        "feeds in config/feeds.yaml",
    ),
    "exposure_cap": ("the total exposure would exceed its limit", _limit("max_total_exposure_usd")),
    "symbol_exposure_cap": (
        "the exposure in this symbol would exceed its limit",
        _limit("max_symbol_exposure_usd"),
    ),
    "price_band": (
        "the quote is too far from the signal's entry price",
        f"price_band_pct in {RISK}",
    ),
    "volatility_band": (
        "the quote has moved further since the signal than the token's volatility allows",
        f"volatility_band in {RISK}",
    ),
    "volatility_unreadable": (
        "the signal has no volatility of the token",
        "`manage.py doctor`, line candles",
    ),
    "max_trade": (
        "the order exceeds the maximum size of one order",
        f"max_trade_usd in {RISK}, or a sizing preset with smaller shares",
    ),
    "slippage": (
        "the venue's price is too far from the quote",
        f"max_slippage_pct in {RISK}; the pool's depth",
    ),
    "slippage_unreadable": (
        "the venue gave no price for an order of this size",
        "the venue's status page",
    ),
    "token_not_listed": ("the venue does not list the token", f"venues of the token in {MARKETS}"),
    "venue_unreadable": ("the venue did not answer", "`manage.py doctor`; the venue's status page"),
    "no_position": ("the venue holds nothing to close", "`manage.py reconcile`"),
    "position_exists": (
        "the account already holds the token",
        f"allow_add_to_position in {RISK}",
    ),
    "balance_unreadable": (
        "the account could not be valued: a held token has no quote",
        "feeds in config/feeds.yaml",
    ),
    "below_minimum": (
        "the order is below the preset's minimum size",
        f"deposit more, or sizing.<preset>.min_usd in {RISK}, or a preset with a larger share",
    ),
    "insufficient_balance": (
        "the account's available balance does not cover the order",
        f"deposit more, or sizing in {RISK}",
    ),
    "signal_expired": (
        "the signal expired before the order was sent",
        f"generate.signal_ttl_hours in {SIGNALS}",
    ),
    "never_arrived": (
        "the venue never received the order, and its deadline passed",
        f"order_deadline_seconds in {RISK}",
    ),
    "deadline_passed": (
        "the order reached the venue after its deadline",
        f"order_deadline_seconds in {RISK}",
    ),
    # Safes: the owners' policy, the module and the chain
    "safe_not_planned": ("the Safe has no verified plan", _SIGN),
    "safe_reverts": (
        "the Safe's last orders all reverted",
        "the reverts of its transactions, in the admin; then `manage.py safe verify`",
    ),
    "safe_changed": (
        "the Safe's code, singleton or guard differs from what was accepted at planning",
        "`manage.py safe verify` names the differences",
    ),
    "safe_unsupported": (
        "the Safe is not an official release, or has a guard",
        "the message of the refusal names what is unsupported",
    ),
    "pool_too_shallow": (
        "a trade of the maximum size would move the pool's price too far",
        f"max_price_impact_bps in {CHAINS}; a new plan takes the deepest pool",
    ),
    "safe_planned_anew": (
        "a new plan was made while the Safe was being verified",
        "`manage.py safe verify` again",
    ),
    "safe_not_verified": (
        "the chain has not confirmed the policy that the owners signed",
        "`manage.py safe verify --deployment N` names each difference",
    ),
    "not_a_safe": ("there is no Safe at this address on this chain", "safe_wallet of the deployment"),
    "module_disabled": ("the module is not enabled in the Safe", _SIGN),
    "executor_not_allowed": ("the Safe's policy names another executor, or was revoked", _SIGN),
    "not_executor": ("the Safe's policy names another executor, or was revoked", _SIGN),
    "stopped": ("the Safe's guardian or owners have stopped it", "the owners call `resume()` on the module"),
    "policy_differs": (
        "the policy on chain differs from the plan",
        "`manage.py safe verify`, then a new plan",
    ),
    "pool_missing": ("the token has no pool with liquidity in the planned fee tier", _TIERS),
    "no_quote": ("the pool gives no price for this amount", _TIERS),
    "below_min_trade": (
        "the order is below the minimum of the Safe's policy",
        f"sizing in {RISK}; policy.min_trade in {CHAINS}, signed again",
    ),
    "above_max_trade": (
        "the order is above the maximum of the Safe's policy",
        f"sizing in {RISK}; policy.max_trade in {CHAINS}, signed again",
    ),
    "daily_notional": (
        "the Safe's notional limit for 24 hours is used up",
        f"policy.daily_notional in {CHAINS}, signed again",
    ),
    "trades_per_day": (
        "the Safe's number of trades in 24 hours is used up",
        f"policy.trades_per_day in {CHAINS}, signed again",
    ),
    "loss_budget": (
        "the Safe's remaining loss budget does not cover the order",
        f"policy.loss_budget in {CHAINS}, signed again",
    ),
    "price_floor": (
        "the pool would give too little compared with the price feed",
        f"nothing; policy.slippage_bps in {CHAINS}",
    ),
    "feed_bad": (
        "the on-chain price feed gave no valid price",
        "nothing: trading resumes with the feed",
    ),
    "feed_stale": (
        "the on-chain price feed is too old",
        "nothing: trading resumes with the feed",
    ),
    "sequencer_down": (
        "the chain's sequencer is down, or was restarted less than an hour ago",
        "nothing: trading resumes automatically",
    ),
    "trade_id_used": (
        "the module has executed this trade before",
        "nothing to change: the check prevents duplicate trades",
    ),
    "deadline": (
        "the deadline passed before a block included the trade",
        f"order_deadline_seconds in {RISK}",
    ),
    "never_sent": (
        "the deadline passed before the trade was signed",
        "`manage.py status`, the execute worker",
    ),
    "executor_out_of_gas": (
        "the executor's balance does not cover the gas",
        "send it the chain's coin; `manage.py reconcile --chain` shows the balance",
    ),
    "nonce_taken": (
        "another sender used the executor's nonce: its key has leaked",
        "rotate the key: docs/runbook.md, Rotate the executor's key",
    ),
    "shorts_not_supported": (
        "the venue does not support shorts",
        "`shorts` of the venue in config/venues.yaml",
    ),
}


def explain(code: str) -> tuple[str, str]:
    """Return the meaning of a reason and what to change. Unknown codes are taken for the venue's own."""
    if code in REASONS:
        return REASONS[code]
    stage = code.partition(":")[0]
    return REASONS.get(
        stage, ("a reason given by the venue itself", "the venue's documentation and status page")
    )
