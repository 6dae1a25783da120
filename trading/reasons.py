"""Reason codes for signals and orders that did not trade: what each means, how to change it, and who can. No I/O."""

from maxxit.core.reasons import Audience, CodedReason

CUSTOMER, STAFF, NOBODY = Audience
RISK, SIGNALS, MARKETS, CHAINS = (f"config/{name}.yaml" for name in ("risk", "signals", "markets", "chains"))
SIGN = "sign the plan on the page Wallet, as the Safe's owners"
KEYS, LIMITS, SAFE_LIMITS = (
    "the page Keys of the agent",
    "Limits of the agent, on the page My agents",
    "the page Wallet, Change the limits",
)
FEE_TIERS = f"fee_tiers in {CHAINS}, then a new plan; the pool's liquidity"


class Reason(CodedReason):
    """Why an order or a signal did not trade. Abnormal ones count for the guard's `blocked_rate`."""

    # signals
    NOT_IN_TIME = (
        "not_in_time",
        STAFF,
        "the signal expired before it was executed",
        f"generate.signal_ttl_hours in {SIGNALS}",
    )
    NO_ACTIVE_DEPLOYMENT = (
        "no_active_deployment",
        CUSTOMER,
        "the agent has no active deployment",
        "Start trading on the page My agents",
    )

    # the gate, closed by a person or by the guard
    GATE_UNREADABLE = "gate_unreadable", STAFF, "the gate could not be read", "`manage.py doctor`", True
    DRY_RUN = (
        "dry_run",
        STAFF,
        "dry run is on for the venue: the order was decided and not sent",
        "`manage.py paper on` for paper venues; `manage.py gate open VENUE --reason …` asks for real money",
    )
    NOT_APPROVED = (
        "not_approved",
        STAFF,
        "no approval of the venue is in force",
        "`manage.py approve VENUE --hours N --reason …`",
    )
    KILL_SWITCH = (
        "kill_switch",
        STAFF,
        "the kill switch is latched",
        "`manage.py resume --reason …`, or Stop → Release in the admin",
    )

    # limits, prices and the venue
    DUPLICATE_IDEMPOTENCY_KEY = (
        "duplicate_idempotency_key",
        NOBODY,
        "the same intent was sent before",
        "nothing to change: the check prevents duplicate orders",
        True,
    )
    THROTTLES_UNREADABLE = (
        "throttles_unreadable",
        STAFF,
        "the order counts could not be read",
        "`manage.py doctor`",
        True,
    )
    RATE_LIMIT = (
        "rate_limit",
        STAFF,
        "too many entries within a minute on the account",
        f"account.max_orders_per_minute in {RISK}",
    )
    PLATFORM_PACE = (
        "platform_pace",
        NOBODY,
        "the platform sends a limited number of entries a minute, and other orders come first",
        "nothing: it is sent in its turn, or expires with its signal; "
        f"platform.max_orders_per_minute in {RISK} sets the pace",
    )
    MAX_SYMBOL_ORDERS = (
        "max_symbol_orders",
        STAFF,
        "too many entries in this symbol today (UTC)",
        f"account.max_orders_per_symbol_per_day in {RISK}",
    )
    MAX_OPEN_ORDERS = (
        "max_open_orders",
        STAFF,
        "too many entries in flight on the account",
        f"account.max_open_orders in {RISK}",
    )
    COOLDOWN = (
        "cooldown",
        STAFF,
        "the last entry in this symbol is too recent",
        f"account.cooldown_seconds_per_symbol in {RISK}",
    )
    NO_PRICE = "no_price", STAFF, "there is no fresh quote", "max_age_seconds and feeds in config/feeds.yaml"
    EXPOSURE_UNREADABLE = (
        "exposure_unreadable",
        STAFF,
        "the exposure could not be computed: a held token has no quote",
        "feeds in config/feeds.yaml",
        True,
    )
    EXPOSURE_CAP = (
        "exposure_cap",
        STAFF,
        "the total exposure would exceed its limit on the account",
        f"account.max_total_exposure_usd in {RISK}",
    )
    PLATFORM_EXPOSURE_CAP = (
        "platform_exposure_cap",
        STAFF,
        "the total exposure would exceed its limit over all accounts",
        f"platform.max_total_exposure_usd in {RISK}",
    )
    SYMBOL_EXPOSURE_CAP = (
        "symbol_exposure_cap",
        STAFF,
        "the exposure in this symbol would exceed its limit on the account",
        f"account.max_symbol_exposure_usd in {RISK}",
    )
    PLATFORM_SYMBOL_EXPOSURE_CAP = (
        "platform_symbol_exposure_cap",
        STAFF,
        "the exposure in this symbol would exceed its limit over all accounts",
        f"platform.max_symbol_exposure_usd in {RISK}",
    )
    PRICE_BAND = (
        "price_band",
        STAFF,
        "the quote is too far from the signal's entry price",
        f"price_band_pct in {RISK}",
    )
    VOLATILITY_BAND = (
        "volatility_band",
        STAFF,
        "the quote has moved further since the signal than the token's volatility allows",
        f"volatility_band in {RISK}",
    )
    VOLATILITY_UNREADABLE = (
        "volatility_unreadable",
        STAFF,
        "the signal has no volatility of the token",
        "`manage.py doctor`, line candles",
    )
    MAX_TRADE = (
        "max_trade",
        STAFF,
        "the order exceeds the maximum size of one order",
        f"max_trade_usd in {RISK}, or a sizing preset with smaller shares",
    )
    SLIPPAGE = (
        "slippage",
        STAFF,
        "the venue's price is too far from the quote",
        f"max_slippage_pct in {RISK}; the pool's depth",
    )
    SLIPPAGE_UNREADABLE = (
        "slippage_unreadable",
        STAFF,
        "the venue gave no price for an order of this size",
        "the venue's status page",
        True,
    )
    TOKEN_NOT_LISTED = (
        "token_not_listed",
        STAFF,
        "the venue does not list the token",
        f"venues of the token in {MARKETS}",
    )
    SHORTS_NOT_SUPPORTED = (
        "shorts_not_supported",
        STAFF,
        "the venue does not support shorts",
        "`shorts` of the venue in config/venues.yaml",
    )
    VENUE_UNREADABLE = (
        "venue_unreadable",
        STAFF,
        "the venue did not answer",
        "`manage.py doctor`; the venue's status page",
        True,
    )
    MARKET_CLOSED = (
        "market_closed",
        NOBODY,
        "the venue's market is closed",
        "nothing: it opens again at its hours",
    )
    EXITS_AT_VENUE = (
        "exits_at_venue",
        NOBODY,
        "the stop or the target that the venue keeps closes the position, or is being canceled there",
        "nothing: our closing order is sent once the venue keeps none, and only for what is left",
    )
    NO_CREDENTIALS = (
        "no_credentials",
        CUSTOMER,
        "no keys of the account at its venue are stored",
        f"store them on {KEYS}",
    )
    CREDENTIALS_REFUSED = (
        "credentials_refused",
        CUSTOMER,
        "the venue refuses the stored keys of the account",
        f"make a new key at the venue that may trade and not withdraw, and store it on {KEYS}",
    )
    ACCOUNT_BLOCKED = (
        "account_blocked",
        CUSTOMER,
        "the venue does not let the account trade",
        "the account's status and settings at the venue",
    )
    REFUSED_BY_VENUE = (
        "refused_by_venue",
        STAFF,
        "the venue refused the order",
        "the venue's own words, in the order's events: `manage.py chain --order N`",
        True,
    )
    NOT_MATCHED = (
        "not_matched",
        STAFF,
        "the venue's book had nothing to trade with within the price limit",
        "slippage_bps of the venue in config/venues.yaml",
    )
    MARKET_DIFFERS = (
        "market_differs",
        STAFF,
        "the venue's market is not the one that is configured, or is delisted",
        "markets of the venue in config/venues.yaml: number and size decimals as the venue lists them",
        True,
    )
    UNKNOWN_AGENT = (
        "unknown_agent",
        CUSTOMER,
        "another agent key than ours is approved for the account",
        "remove it at the venue: its holder can trade with the account's money",
        True,
    )
    AGENT_EXPIRED = (
        "agent_expired",
        CUSTOMER,
        "the agent key of the account is not valid any more at the venue",
        f"approve a new agent key at the venue, and store it on {KEYS}",
    )
    ACCOUNT_MODE = (
        "account_mode",
        CUSTOMER,
        "the account keeps its margin in a mode that is not supported",
        "switch unified account and portfolio margin off at the venue",
    )
    BUILDER_FEE_NOT_APPROVED = (
        "builder_fee_not_approved",
        CUSTOMER,
        "the account's owner has not approved the platform's fee at the venue",
        "approve the builder fee at the venue with the main wallet",
    )
    NO_POSITION = "no_position", STAFF, "the venue holds nothing to close", "`manage.py reconcile`"
    POSITION_EXISTS = (
        "position_exists",
        STAFF,
        "the account already holds the token",
        f"allow_add_to_position in {RISK}",
    )
    BALANCE_UNREADABLE = (
        "balance_unreadable",
        STAFF,
        "the account could not be valued: a held token has no quote",
        "feeds in config/feeds.yaml",
        True,
    )
    BELOW_MINIMUM = (
        "below_minimum",
        CUSTOMER,
        "the order is below the preset's minimum size",
        "deposit more, or a preset with a larger share",
    )
    INSUFFICIENT_BALANCE = (
        "insufficient_balance",
        CUSTOMER,
        "the account's available balance does not cover the order",
        "deposit more, or a preset with smaller shares",
    )
    SIGNAL_EXPIRED = (
        "signal_expired",
        STAFF,
        "the signal expired before the order was sent",
        f"generate.signal_ttl_hours in {SIGNALS}",
    )
    NEVER_ARRIVED = (
        "never_arrived",
        STAFF,
        "the venue never received the order, and its deadline passed",
        f"order_deadline_seconds in {RISK}",
        True,
    )
    DEADLINE_PASSED = (
        "deadline_passed",
        STAFF,
        "the order reached the venue after its deadline",
        f"order_deadline_seconds in {RISK}",
    )

    # what the process that signs refuses, whatever the order says
    SIGNER_ACTION = (
        "signer_action",
        STAFF,
        "the signer signs no action of this kind or form",
        "nothing to change: an error of the platform, or an attack on it",
        True,
    )
    SIGNER_MARKET = (
        "signer_market",
        STAFF,
        "the signer does not trade this market",
        "markets of the venue in config/venues.yaml",
        True,
    )
    SIGNER_PRICE_BAND = (
        "signer_price_band",
        STAFF,
        "the order's price limit is too far from our quote for the signer, or there is no quote",
        "price_band_bps and exit_band_bps of the venue in config/venues.yaml",
    )
    SIGNER_LEVERAGE = (
        "signer_leverage",
        STAFF,
        "the leverage is above what the signer allows, or the margin is not isolated",
        "max_leverage of the venue in config/venues.yaml",
        True,
    )
    SIGNER_DAILY_NOTIONAL = (
        "signer_daily_notional",
        STAFF,
        "the account's entries of 24 hours would exceed what the signer allows",
        "daily_notional_usd of the venue in config/venues.yaml",
    )

    # what the owner of a deployment decided
    OWNER_UNREADABLE = (
        "owner_unreadable",
        STAFF,
        "the limits of the deployment's owner could not be read",
        "`manage.py doctor`",
        True,
    )
    DEPLOYMENT_NOT_ACTIVE = (
        "deployment_not_active",
        CUSTOMER,
        "the deployment was paused or revoked before the entry was sent",
        "Start trading on the page My agents; the next signal makes a new order",
    )
    AWAITING_CONFIRMATION = (
        "awaiting_confirmation",
        CUSTOMER,
        "the entry waits for its owner's confirmation",
        "confirm or decline it on the page Entries awaiting your confirmation",
    )
    DECLINED = (
        "declined",
        CUSTOMER,
        "the owner declined the entry",
        "nothing to change: the next signal makes a new order",
    )
    NOT_CONFIRMED = (
        "not_confirmed",
        CUSTOMER,
        "its owner did not confirm the entry before the signal expired",
        f"confirm in time on the page Entries awaiting your confirmation, or ask for no confirmation: {LIMITS}",
    )
    PENDING_REVIEW = (
        "pending_review",
        CUSTOMER,
        "the entry's risk score is so high that its owner decides",
        "confirm or decline it on the page Entries awaiting your confirmation",
    )
    RISK_POSITION = (
        "risk_position",
        STAFF,
        "the entry is too large a part of the account for the risk score",
        f"risk_score.max_position_pct in {RISK}, or a smaller sizing preset of the agent",
    )
    RISK_VOLATILITY = (
        "risk_volatility",
        STAFF,
        "the forecast volatility of the token is above the limit of the risk score",
        f"risk_score.max_volatility_pct in {RISK}",
    )
    RISK_CONFIDENCE = (
        "risk_confidence",
        STAFF,
        "the signal's confidence is below the limit of the risk score",
        f"risk_score.min_signal_confidence in {RISK}",
    )
    CORRELATION_SPIKE = (
        "correlation_spike",
        STAFF,
        "the token moves nearly as one that the account holds",
        f"risk_score.max_correlation in {RISK}",
    )
    RISK_SCORE_UNREADABLE = (
        "risk_score_unreadable",
        STAFF,
        "the risk score could not be computed: the order has no signal, its account no readable equity, or a token "
        "that it holds has too few bars for a correlation",
        "`manage.py doctor` and `manage.py backfill`; the cause is in the order's verdict and in the log",
        True,
    )
    OWNER_DAILY_LIMIT = (
        "owner_daily_limit",
        CUSTOMER,
        "the entries of today (UTC) would exceed the owner's own limit",
        LIMITS,
    )
    OWNER_POSITION_LIMIT = (
        "owner_position_limit",
        CUSTOMER,
        "the position would exceed the owner's own limit",
        f"{LIMITS}; or a sizing preset with smaller shares",
    )
    OWNER_OPEN_POSITIONS = (
        "owner_open_positions",
        CUSTOMER,
        "the account holds as many tokens as its owner allows",
        LIMITS,
    )

    # what the Safe's owners signed or have not signed yet, and the limits in it
    SAFE_NOT_PLANNED = "safe_not_planned", CUSTOMER, "the Safe has no verified plan", SIGN
    SAFE_REVERTS = (
        "safe_reverts",
        STAFF,
        "the Safe's last orders all reverted",
        "the reverts of its transactions, in the admin; then `manage.py safe verify`",
    )
    SAFE_CHANGED = (
        "safe_changed",
        CUSTOMER,
        "the Safe's code, singleton or guard differs from what was accepted at planning",
        "the page Wallet names the differences",
    )
    SAFE_UNSUPPORTED = (
        "safe_unsupported",
        CUSTOMER,
        "the Safe is not an official release, or has a guard",
        "the message of the refusal names what is unsupported",
    )
    SAFE_PLANNED_ANEW = (
        "safe_planned_anew",
        CUSTOMER,
        "a new plan was made while the Safe was being verified",
        "look at the Safe again on the page Wallet",
    )
    SAFE_NOT_VERIFIED = (
        "safe_not_verified",
        CUSTOMER,
        "the chain has not confirmed the policy that the owners signed",
        "the page Wallet names each difference",
    )
    NOT_A_SAFE = (
        "not_a_safe",
        CUSTOMER,
        "there is no Safe at this address on this chain",
        "choose the Safe again on the page Wallet",
        True,
    )
    MODULE_DISABLED = "module_disabled", CUSTOMER, "the module is not enabled in the Safe", SIGN
    EXECUTOR_NOT_ALLOWED = (
        "executor_not_allowed",
        CUSTOMER,
        "the Safe's policy names another executor, or was revoked",
        SIGN,
    )
    NOT_EXECUTOR = "not_executor", CUSTOMER, "the Safe's policy names another executor, or was revoked", SIGN
    STOPPED = (
        "stopped",
        CUSTOMER,
        "the Safe's guardian or owners have stopped it",
        "the owners call `resume()` on the module",
    )
    POLICY_DIFFERS = (
        "policy_differs",
        CUSTOMER,
        "the policy on chain differs from the plan",
        "the page Wallet names each difference; then sign a new plan",
        True,
    )
    BELOW_MIN_TRADE = (
        "below_min_trade",
        CUSTOMER,
        "the order is below the minimum of the Safe's policy",
        "deposit more, or a preset with a larger share",
    )
    ABOVE_MAX_TRADE = (
        "above_max_trade",
        CUSTOMER,
        "the order is above the maximum of the Safe's policy",
        f"a preset with smaller shares; or {SAFE_LIMITS}",
    )
    DAILY_NOTIONAL = (
        "daily_notional",
        CUSTOMER,
        "the Safe's notional limit for 24 hours is used up",
        SAFE_LIMITS,
    )
    TRADES_PER_DAY = (
        "trades_per_day",
        CUSTOMER,
        "the Safe's number of trades in 24 hours is used up",
        SAFE_LIMITS,
    )
    LOSS_BUDGET = (
        "loss_budget",
        CUSTOMER,
        "the Safe's remaining loss budget does not cover the order",
        SAFE_LIMITS,
    )

    # a chain's pools and price feeds
    POOL_MISSING = (
        "pool_missing",
        STAFF,
        "the token has no pool with liquidity in the planned fee tier",
        FEE_TIERS,
    )
    POOL_TOO_SHALLOW = (
        "pool_too_shallow",
        STAFF,
        "a trade of the maximum size would move the pool's price too far",
        f"max_price_impact_bps in {CHAINS}; a new plan takes the deepest pool",
    )
    NO_QUOTE = "no_quote", STAFF, "the pool gives no price for this amount", FEE_TIERS
    PRICE_FLOOR = (
        "price_floor",
        NOBODY,
        "the pool would give too little compared with the price feed",
        f"nothing; policy.slippage_bps in {CHAINS}",
    )
    FEED_BAD = (
        "feed_bad",
        NOBODY,
        "the on-chain price feed gave no valid price",
        "nothing: trading resumes with the feed",
    )
    FEED_STALE = (
        "feed_stale",
        NOBODY,
        "the on-chain price feed is too old",
        "nothing: trading resumes with the feed",
    )
    SEQUENCER_DOWN = (
        "sequencer_down",
        NOBODY,
        "the chain's sequencer is down, or was restarted less than an hour ago",
        "nothing: trading resumes automatically",
    )

    # transactions
    TRADE_ID_USED = (
        "trade_id_used",
        NOBODY,
        "the module has executed this trade before",
        "nothing to change: the check prevents duplicate trades",
        True,
    )
    DEADLINE = (
        "deadline",
        STAFF,
        "the deadline passed before a block included the trade",
        f"order_deadline_seconds in {RISK}",
    )
    NEVER_SENT = (
        "never_sent",
        STAFF,
        "the deadline passed before the trade was signed",
        "`manage.py status`, the execute worker",
        True,
    )
    EXECUTOR_OUT_OF_GAS = (
        "executor_out_of_gas",
        STAFF,
        "the executor's balance does not cover the gas",
        "send it the chain's coin; `manage.py reconcile --chain` shows the balance",
        True,
    )
    EXECUTION_FEE = (
        "execution_fee",
        STAFF,
        "the fee that GMX wants for executing an order is above the limit",
        "max_execution_fee_wei of the venue, and max_execution_fee in a new plan; or wait for lower gas prices",
        True,
    )
    HELD_BACK = (
        "held_back",
        STAFF,
        "the gate was closed after the order was reserved, and its deadline passed",
        "the gate of the venue; the next signal makes a new order",
    )
    CANCELED = "canceled", NOBODY, "the order was canceled before it was signed", "nothing to change"
    REVERTED = (
        "reverted",
        STAFF,
        "the transaction failed in its block without a reason",
        "the transaction, in the admin and in a block explorer",
        True,
    )
    RPC_FAULT = (
        "rpc_fault",
        STAFF,
        "the trial call of the transaction failed without a reason",
        f"`manage.py safe verify`; the chain's nodes in {CHAINS}",
        True,
    )
    NO_FILL_IN_RECEIPT = (
        "no_fill_in_receipt",
        STAFF,
        "the transaction succeeded, but its receipt shows no trade of the module",
        "the transaction, in the admin and in a block explorer; `manage.py reconcile`",
        True,
    )
    NO_QUANTITY = (
        "no_quantity",
        STAFF,
        "the order's quantity is zero",
        "nothing to change: an error of the platform",
        True,
    )
    NONCE_TAKEN = (
        "nonce_taken",
        STAFF,
        "another sender used the executor's nonce: its key has leaked",
        "rotate the key: docs/runbook.md, Rotate the executor's key",
        True,
    )


ORDINARY = frozenset(reason for reason in Reason if not reason.abnormal)
"""Reasons why a healthy platform refuses an entry. Codes that only a venue knows are not among them."""
