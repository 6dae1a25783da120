"""Every coded reason in words, and where its limit is set. Pure."""

RISK, SIGNALS, MARKETS = "config/risk.yaml", "config/signals.yaml", "config/markets.yaml"
CHAINS = "config/chains.yaml"
_SIGN = "`manage.py safe plan`, and its owners sign"
_TIERS = f"fee_tiers in {CHAINS} and a new plan; the pool's liquidity"
_BOTH = "{name} under account: or platform: in config/risk.yaml, whichever equals the limit"


def _limit(name: str) -> str:
    return _BOTH.format(name=name)


REASONS: dict[str, tuple[str, str]] = {
    # posts
    "pending": (
        "nobody has read it yet",
        "wait for the next classify pass, or `manage.py pipeline stage classify`",
    ),
    "prefiltered:empty": ("nothing is left of it without links and names", "nothing to change"),
    "prefiltered:chatter": ("a greeting or the like", "the word list of signals_app/prefilter.py"),
    "prefiltered:deleted": ("its author deleted it before anybody had read it", "nothing to change"),
    "prefiltered:too_short": ("short, and names no listed token", f"aliases in {MARKETS}"),
    "unread": ("no model could read it", "`manage.py doctor` for the providers; the sweep tries again"),
    "not_candidate": (
        "the model saw no call to buy or sell in it",
        "the prompt and provider in config/llm.yaml",
    ),
    "too_many_tokens": (
        "a call on more than three tokens, which is none",
        "MAX_TOKENS in signals_app/verify.py",
    ),
    "side_contradicted": (
        "the model's side contradicts what the author says of the position (its close opens nothing)",
        "the prompt in config/prompts/classify.md, the grammar in signals_app/reading/rules/positions.py",
    ),
    "no_listed_token": ("a call, but on no token that we list", f"instruments and aliases in {MARKETS}"),
    "candidate:waiting": ("a call that no agent has decided on yet", "`manage.py pipeline stage generate`"),
    "candidate:no_follower": (
        "no active agent follows its author",
        "subscriptions of the agent, in the admin",
    ),
    "candidate:too_old": (
        "it reached us too late",
        f"generate.max_post_age_hours and lookback_hours in {SIGNALS}",
    ),
    "candidate:not_on_venue": (
        "its token is not traded by the agents that follow",
        f"tokens of the agent, venues in {MARKETS}",
    ),
    "candidate:no_market_data": (
        "too few closed bars for the indicators",
        f"generate.warm_up_bars in {SIGNALS}; the feeds",
    ),
    "candidate:no_price": ("no fresh quote of its token", "max_age_seconds and feeds in config/feeds.yaml"),
    "candidate:uncorroborated": (
        "an illiquid token needs two authors",
        f"illiquid of the token in {MARKETS}",
    ),
    "candidate:bucket_taken": (
        "the agent had its signal for this token and bucket",
        f"generate.bucket_hours in {SIGNALS}",
    ),
    "candidate:deleted": ("its author deleted it", "nothing to change"),
    "candidate:author_cap": (
        "its author brought the agent enough signals today (UTC)",
        f"generate.max_signals_per_author_per_day in {SIGNALS}",
    ),
    "candidate:token_cap": (
        "the agent had enough signals on this token today (UTC)",
        f"generate.max_signals_per_token_per_day in {SIGNALS}",
    ),
    "candidate:opposed": (
        "the indicators and other posts said the other side",
        "the agent's weights, in the admin",
    ),
    "candidate:shorts_not_supported": (
        "a short, and the venue has none",
        "shorts of the venue in config/venues.yaml",
    ),
    "candidate:below_threshold": ("too little confidence", "min_confidence of the agent, in the admin"),
    "candidate:model_failed": (
        "the proposing model gave no usable answer",
        f"generate.proposer in {SIGNALS}; config/llm.yaml",
    ),
    "candidate:model_disagrees": (
        "the proposing model would not take the trade",
        f"generate.proposer in {SIGNALS}",
    ),
    # signals
    "not_in_time": ("nobody executed it before it expired", f"generate.signal_ttl_hours in {SIGNALS}"),
    "no_active_deployment": ("its agent has no active deployment", "activate a deployment, in the admin"),
    # orders, in the order of the checks
    "gate_unreadable": ("the gate could not be read", "`manage.py doctor`"),
    "dry_run": (
        "the venue's gate is closed: everything is decided and nothing leaves",
        "`manage.py paper on`",
    ),
    "not_approved": ("no person has approved this venue", "`manage.py approve VENUE --hours N --reason …`"),
    "kill_switch": ("the kill switch is latched", "`manage.py resume --reason …`, or Release in the admin"),
    "duplicate_idempotency_key": (
        "this intent was sent before",
        "nothing to change: it protects against doubles",
    ),
    "throttles_unreadable": ("a throttle could not be counted", "`manage.py doctor`"),
    "rate_limit": ("too many entries within a minute", _limit("max_orders_per_minute")),
    "max_symbol_orders": (
        "too many entries in this symbol today (UTC)",
        f"account.max_orders_per_symbol_per_day in {RISK}",
    ),
    "max_open_orders": ("too many entries in flight", _limit("max_open_orders")),
    "cooldown": (
        "too soon after the last entry in this symbol",
        f"account.cooldown_seconds_per_symbol in {RISK}",
    ),
    "no_price": ("no fresh quote", "max_age_seconds and feeds in config/feeds.yaml"),
    # prices, as `why --symbol` and a lacking price tell them
    "quote:never": ("no source has given a price of it yet", "ids of the feeds in config/feeds.yaml"),
    "quote:all_sources_refused": (
        "every source said something that cannot be true",
        "nothing: it is trusted again as soon as they make sense",
    ),
    "quote:sources_disagree": (
        "no majority of the sources agrees",
        "max_deviation_bps in config/feeds.yaml; it is trusted again as soon as they agree",
    ),
    "quote:too_few_sources": (
        "fewer sources agree than must",
        "min_sources in config/feeds.yaml; another feed in `order`",
    ),
    "quote:not_positive": ("the source gave no positive price", "nothing: the source's own fault"),
    "quote:out_of_range": ("no token costs so little or so much", "nothing: the source's own fault"),
    "quote:stale": ("the source's price is too old", "max_age_seconds in config/feeds.yaml"),
    "quote:from_the_future": ("the source's clock, or ours, is wrong", "`manage.py doctor`: the clock"),
    "quote:not_confident": (
        "the source is not sure enough of its price",
        "max_confidence_bps in config/feeds.yaml",
    ),
    "quote:jump": (
        "it moved further than a market does",
        "max_jump_pct and jump_seconds in config/feeds.yaml",
    ),
    "quote:deviates": ("it is too far from the other sources", "max_deviation_bps in config/feeds.yaml"),
    "exposure_unreadable": (
        "the exposure could not be computed: a held token has no quote",
        "config/feeds.yaml",
    ),
    "exposure_cap": ("too much exposure in total", _limit("max_total_exposure_usd")),
    "symbol_exposure_cap": ("too much exposure in this symbol", _limit("max_symbol_exposure_usd")),
    "price_band": ("the quote has moved away from the signal's price", f"price_band_pct in {RISK}"),
    "volatility_band": (
        "the quote has moved further than the token moves in a bar",
        f"volatility_band in {RISK}",
    ),
    "volatility_unreadable": (
        "the signal kept no volatility of the token",
        "`manage.py doctor`: candles and their gaps",
    ),
    "max_trade": ("the order is larger than any may be", f"max_trade_usd in {RISK}, or the sizing preset"),
    "slippage": (
        "the venue would fill it too far from the quote",
        f"max_slippage_pct in {RISK}; the pool's depth",
    ),
    "slippage_unreadable": ("the venue gave no price for an order of this size", "the venue's own status"),
    "token_not_listed": ("the venue does not list the token", f"venues of the token in {MARKETS}"),
    "venue_unreadable": ("the venue did not answer", "`manage.py doctor`; the venue's own status"),
    "no_position": ("nothing to close at the venue", "`manage.py reconcile`"),
    "position_exists": ("the token is held already", f"allow_add_to_position in {RISK}"),
    "balance_unreadable": ("the account could not be valued: a held token has no quote", "config/feeds.yaml"),
    "below_minimum": (
        "the order would be too small",
        f"sizing.<preset>.min_usd in {RISK}, or the account's balance",
    ),
    "insufficient_balance": ("the account cannot pay for it", f"the account's balance; sizing in {RISK}"),
    "signal_expired": ("its signal expired first", f"generate.signal_ttl_hours in {SIGNALS}"),
    "never_arrived": (
        "the venue never knew it, and its deadline passed",
        f"order_deadline_seconds in {RISK}",
    ),
    "deadline_passed": ("it reached the venue after its deadline", f"order_deadline_seconds in {RISK}"),
    # from a Safe: what its owners signed, what the module and the chain said
    "safe_not_planned": ("no plan for this Safe was ever verified", _SIGN),
    "safe_reverts": (
        "the Safe's last orders all reverted",
        "the reasons of its transactions in the admin; then `manage.py safe verify`",
    ),
    "safe_changed": (
        "the Safe's code, singleton or guard is not what was accepted at planning",
        "`manage.py safe verify` names what was found",
    ),
    "safe_unsupported": ("the Safe is none of Safe's own releases, or guarded", "what the refusal names"),
    "pool_too_shallow": (
        "a trade of the largest size would move the pool's price too far",
        f"max_price_impact_bps in {CHAINS}; a new plan takes the deepest pool",
    ),
    "safe_planned_anew": ("the Safe was planned anew while it was being verified", "verify again"),
    "safe_not_verified": (
        "the chain has not confirmed what the owners signed",
        "`manage.py safe verify --deployment N` names each difference",
    ),
    "not_a_safe": ("there is no Safe at this address on this chain", "safe_wallet of the deployment"),
    "module_disabled": ("the module is not enabled in the Safe", _SIGN),
    "executor_not_allowed": ("the Safe's policy names another executor, or was revoked", _SIGN),
    "not_executor": ("the Safe's policy names another executor, or was revoked", _SIGN),
    "stopped": ("the Safe's guardian or owners have stopped it", "the owners' `resume()` on the module"),
    "policy_differs": (
        "the policy on chain is not the planned one",
        "`manage.py safe verify`, then a new plan",
    ),
    "pool_missing": ("the token has no pool with liquidity in the planned fee tier", _TIERS),
    "no_quote": ("the pool gives no price for this amount", _TIERS),
    "below_min_trade": (
        "smaller than the Safe's policy allows",
        f"sizing in {RISK}; policy.min_trade in {CHAINS}",
    ),
    "above_max_trade": (
        "larger than the Safe's policy allows",
        f"sizing in {RISK}; policy.max_trade in {CHAINS}",
    ),
    "daily_notional": (
        "the Safe's limit for 24 hours is used up",
        f"policy.daily_notional in {CHAINS}, signed anew",
    ),
    "trades_per_day": (
        "the Safe's trades of 24 hours are used up",
        f"policy.trades_per_day in {CHAINS}, signed anew",
    ),
    "loss_budget": (
        "the Safe's loss budget has no room for it",
        f"policy.loss_budget in {CHAINS}, signed anew",
    ),
    "price_floor": (
        "the pool would give too little against the price feed",
        f"nothing; policy.slippage_bps in {CHAINS}",
    ),
    "feed_bad": ("the chain's price feed gave no valid price", "nothing: it trades again with the feed"),
    "feed_stale": ("the chain's price feed is too old", "nothing: it trades again with the feed"),
    "sequencer_down": (
        "the chain's sequencer is down, or has just come back",
        "nothing: it trades again by itself",
    ),
    "trade_id_used": (
        "the module has made this trade before",
        "nothing to change: it protects against doubles",
    ),
    "deadline": ("its deadline passed before it was in a block", f"order_deadline_seconds in {RISK}"),
    "never_sent": ("its deadline passed before it was signed", "`manage.py status`: the executing worker"),
    "executor_out_of_gas": (
        "the executor cannot pay for gas",
        "send it the chain's coin: `manage.py reconcile --chain`",
    ),
    "nonce_taken": (
        "somebody else used the executor's nonce: its key is out",
        "rotate it: docs/chain.md, The key",
    ),
    "shorts_not_supported": (
        "a Safe cannot sell what it does not hold",
        "shorts of the venue in config/venues.yaml",
    ),
}


def explain(code: str) -> tuple[str, str]:
    """What a reason means, and what to change. A reason that a venue made up itself is said to be one."""
    if code in REASONS:
        return REASONS[code]
    stage = code.partition(":")[0]
    return REASONS.get(stage, ("the venue's own reason", "the venue: its documentation and status"))
