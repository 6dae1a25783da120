"""Pre-trade risk checks: facts about an order in, verdict out. Pure functions.

The checks run in the order of `CHECKS`; the first that fails is the verdict, with the measured value and the limit. A
fact that could not be read is None and blocks the order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from maxxit.core.money import ZERO
from trading.reasons import Reason
from trading.risk import score
from trading.risk.policy import RiskPolicy
from trading.risk.score import RiskInputs


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an order may be sent, and if not, which check blocked it: reason code, measured value, limit."""

    allowed: bool
    reason: str = ""
    measured: str = ""
    limit: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the verdict for the order's row; empty where it is allowed."""
        return {"reason": self.reason, "measured": self.measured, "limit": self.limit} if self.reason else {}


@dataclass(frozen=True, slots=True)
class GateFacts:
    """The gate in front of a venue, as read inside the reserving transaction."""

    dry_run: bool
    approved: bool
    kill_level: str
    """The strictest level latched for the platform or the account: no_entries, reduce_only, flatten, or empty."""
    expired: bool = False
    """The approval expired and was not revoked: blocks entries, not exits."""


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How much of the limits an account, or the whole platform, already uses."""

    orders_last_minute: int
    open_orders: int
    exposure_usd: Decimal
    """Gross, at the newest quotes, including entries in flight."""
    symbol_exposure_usd: Decimal


@dataclass(frozen=True, slots=True)
class OwnerTerms:
    """What the owner of a deployment decided about its entries. They only ever block what nothing else blocks."""

    active: bool = True
    """The deployment is active: not paused or revoked since the entry was planned."""
    confirmed: bool = True
    """The owner said yes to this entry, or need not."""
    max_daily_usd: Decimal | None = None
    """Limit of the entries of a UTC day; None for none."""
    max_position_usd: Decimal | None = None
    """Limit of one token that the account holds, entries in flight included."""
    max_open_positions: int | None = None
    """Limit of tokens that the account holds."""
    entered_today_usd: Decimal = ZERO
    """Entries of the deployment since midnight UTC: at the quote while in flight, then at the fill price."""
    other_positions: int = 0
    """Tokens that the account holds besides that of the order, entries in flight included."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks use. None means that it could not be read."""

    gate: GateFacts | None
    reduces: bool
    """A closing order: it can only reduce |exposure|."""
    buys: bool
    """A buy order: a long entry, or the exit of a short."""
    duplicate: bool
    price: Decimal | None
    """The reference price, USD."""
    notional_usd: Decimal
    quantity: Decimal
    """After rounding to lots."""
    listed: bool
    held: Decimal | None
    """Tokens that the account holds, entries in flight included; negative for a short."""
    venue_problem: str | None
    """Reason code of the venue's objection (market closed, module disabled …), empty for none."""
    venue_detail: str = ""
    """What belongs to it, for people."""

    # facts of entries only
    owner: OwnerTerms | None = None
    account: LimitUsage | None = None
    platform: LimitUsage | None = None
    symbol_orders_today: int | None = None
    since_last_order: timedelta | None = None
    """Since the account's last entry in this symbol; `limits.NEVER_BEFORE` where there was none."""
    signal_price: Decimal | None = None
    volatility_pct: Decimal | None = None
    """Volatility per bar in percent, by the configured method, as stored with the signal."""
    min_usd: Decimal = ZERO
    spendable_usd: Decimal | None = None
    expected_price: Decimal | None = None
    """USD per token, before fees, at which the venue would fill the largest order of this sizing preset."""
    risk: RiskInputs | None = None
    """What the risk score uses; None where it is off, or the order has no signal."""


PASS = Verdict(True)


def _stop(reason: str, measured: object = "", limit: object = "") -> Verdict:
    return Verdict(False, reason, str(measured), str(limit))


def check_gate(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check dry run, approval and kill switch. Closing orders pass every kill level and an expired approval."""
    return gate_verdict(facts.gate, reduces=facts.reduces)


def gate_verdict(gate: GateFacts | None, *, reduces: bool) -> Verdict:
    """Return the verdict of the gate alone, for an order that is reserved and not sent yet."""
    if gate is None:
        return _stop(Reason.GATE_UNREADABLE)
    if gate.dry_run:
        return _stop(Reason.DRY_RUN, "true", "false")
    if not gate.approved and not (reduces and gate.expired):
        return _stop(Reason.NOT_APPROVED, "expired" if gate.expired else "")
    if gate.kill_level and not reduces:
        return _stop(Reason.KILL_SWITCH, gate.kill_level)
    return PASS


def check_duplicate(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Block an order that was already reserved once."""
    return _stop(Reason.DUPLICATE_IDEMPOTENCY_KEY) if facts.duplicate else PASS


def check_throttles(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check the account's orders per minute, per symbol and day, its open orders and its cooldown.

    Exits are not throttled. The platform's own counts block nobody: they are a pace (`trading.execute`).
    """
    if facts.reduces:
        return PASS
    if facts.account is None or facts.platform is None:
        return _stop(Reason.THROTTLES_UNREADABLE)
    if facts.symbol_orders_today is None or facts.since_last_order is None:
        return _stop(Reason.THROTTLES_UNREADABLE)
    account = policy.account
    since = int(facts.since_last_order.total_seconds())
    counted = (
        (Reason.RATE_LIMIT, facts.account.orders_last_minute, account.max_orders_per_minute),
        (Reason.MAX_SYMBOL_ORDERS, facts.symbol_orders_today, account.max_orders_per_symbol_per_day),
        (Reason.MAX_OPEN_ORDERS, facts.account.open_orders, account.max_open_orders),
    )
    for reason, measured, limit in counted:
        if measured >= limit:
            return _stop(reason, measured, limit)
    if since < account.cooldown_seconds_per_symbol:
        return _stop(Reason.COOLDOWN, f"{since} s", f"{account.cooldown_seconds_per_symbol} s")
    return PASS


def check_price(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Block an order without a reference price."""
    return _stop(Reason.NO_PRICE) if facts.price is None else PASS


def check_exposure(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check the notional of one order, and exposure in total and per symbol, of account and platform. Exits pass."""
    if facts.reduces:
        return PASS
    if facts.account is None or facts.platform is None:
        return _stop(Reason.EXPOSURE_UNREADABLE)
    for reason, load, limit in (
        (Reason.MAX_TRADE, ZERO, policy.max_trade_usd),
        (Reason.EXPOSURE_CAP, facts.account.exposure_usd, policy.account.max_total_exposure_usd),
        (Reason.PLATFORM_EXPOSURE_CAP, facts.platform.exposure_usd, policy.platform.max_total_exposure_usd),
        (
            Reason.SYMBOL_EXPOSURE_CAP,
            facts.account.symbol_exposure_usd,
            policy.account.max_symbol_exposure_usd,
        ),
        (
            Reason.PLATFORM_SYMBOL_EXPOSURE_CAP,
            facts.platform.symbol_exposure_usd,
            policy.platform.max_symbol_exposure_usd,
        ),
    ):
        if load + facts.notional_usd > limit:
            return _stop(reason, f"{load + facts.notional_usd:.2f} USD", f"{limit:.2f} USD")
    return PASS


def check_owner(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check what the deployment's owner decided: paused, confirmation, and limits of their own. Exits pass."""
    if facts.reduces:
        return PASS
    owner = facts.owner
    if owner is None or facts.account is None:
        return _stop(Reason.OWNER_UNREADABLE)
    if not owner.active:
        return _stop(Reason.DEPLOYMENT_NOT_ACTIVE)
    if not owner.confirmed:
        return _stop(Reason.AWAITING_CONFIRMATION)
    for reason, load, limit in (
        (Reason.OWNER_DAILY_LIMIT, owner.entered_today_usd, owner.max_daily_usd),
        (Reason.OWNER_POSITION_LIMIT, facts.account.symbol_exposure_usd, owner.max_position_usd),
    ):
        if limit is not None and load + facts.notional_usd > limit:
            return _stop(reason, f"{load + facts.notional_usd:.2f} USD", f"{limit:.2f} USD")
    if owner.max_open_positions is not None and owner.other_positions >= owner.max_open_positions:
        return _stop(Reason.OWNER_OPEN_POSITIONS, owner.other_positions, owner.max_open_positions)
    return PASS


def check_price_band(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check |price - signal price| <= `price_band_pct` of the signal price. Exits pass."""
    if facts.reduces or facts.price is None or facts.signal_price is None:
        return PASS
    deviation_pct = abs(facts.price - facts.signal_price) / facts.signal_price * 100
    if deviation_pct > policy.price_band_pct:
        return _stop(Reason.PRICE_BAND, f"{deviation_pct:.2f} %", f"{policy.price_band_pct} %")
    return PASS


def check_volatility_band(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check |price - signal price| <= multiplier × volatility per bar × signal price. Exits pass."""
    if facts.reduces or facts.price is None or facts.signal_price is None:
        return PASS
    if facts.volatility_pct is None:
        return _stop(Reason.VOLATILITY_UNREADABLE)
    deviation_pct = abs(facts.price - facts.signal_price) / facts.signal_price * 100
    limit = facts.volatility_pct * policy.volatility_band.multiplier
    return (
        _stop(Reason.VOLATILITY_BAND, f"{deviation_pct:.2f} %", f"{limit:.2f} %")
        if deviation_pct > limit
        else PASS
    )


def check_risk_score(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check the limits of the risk score, and let an entry whose score is too high wait for its owner. Exits pass.

    Without a usable forecast the limit of volatility does not apply, and the score is that of the other parts.
    """
    rules = policy.risk_score
    if facts.reduces or not rules.enabled:
        return PASS
    inputs = facts.risk
    if inputs is None or facts.spendable_usd is None or facts.spendable_usd <= 0:
        return _stop(Reason.RISK_SCORE_UNREADABLE)
    position_pct = facts.notional_usd / facts.spendable_usd * 100
    if position_pct > rules.max_position_pct:
        return _stop(Reason.RISK_POSITION, f"{position_pct:.2f} %", f"{rules.max_position_pct} %")
    if inputs.tail is not None and inputs.tail.sigma * 100 > rules.max_volatility_pct:
        return _stop(
            Reason.RISK_VOLATILITY, f"{inputs.tail.sigma * 100:.2f} %", f"{rules.max_volatility_pct} %"
        )
    if inputs.confidence < rules.min_signal_confidence:
        return _stop(Reason.RISK_CONFIDENCE, f"{inputs.confidence:.2f}", rules.min_signal_confidence)
    if inputs.uncorrelated:
        return _stop(Reason.RISK_SCORE_UNREADABLE, f"no correlation with {', '.join(inputs.uncorrelated)}")
    if inputs.correlation is not None and inputs.correlation >= rules.max_correlation:
        return _stop(Reason.CORRELATION_SPIKE, f"{inputs.correlation:.4f}", rules.max_correlation)
    found = score.score(score.parts(inputs, position_pct, rules), rules)
    if found >= rules.review_from and not inputs.reviewed:
        return _stop(Reason.PENDING_REVIEW, f"{found:.4f}", rules.review_from)
    return PASS


def check_slippage(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check expected slippage: |expected price - price| <= `max_slippage_pct` of the price. Exits pass."""
    if facts.reduces or facts.price is None:
        return PASS
    if facts.expected_price is None:  # `check_venue` blocks where the venue objects or did not answer
        return _stop(Reason.SLIPPAGE_UNREADABLE) if facts.venue_problem == "" else PASS
    deviation_pct = abs(facts.expected_price - facts.price) / facts.price * 100
    limit = policy.max_slippage_pct
    return _stop(Reason.SLIPPAGE, f"{deviation_pct:.2f} %", f"{limit} %") if deviation_pct > limit else PASS


def check_venue(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Check listing, the venue's objections, position, minimum size and balance."""
    if not facts.listed:
        return _stop(Reason.TOKEN_NOT_LISTED)
    if facts.venue_problem is None or facts.held is None:
        return _stop(Reason.VENUE_UNREADABLE)
    if facts.venue_problem:
        return _stop(facts.venue_problem, facts.venue_detail)
    if facts.reduces:
        return PASS if facts.held != 0 else _stop(Reason.NO_POSITION, facts.held, "")
    # Never the opposite side of a holding: the venue would net them, and neither exit would find its tokens.
    if facts.held != 0 and (not policy.allow_add_to_position or facts.buys != (facts.held > 0)):
        return _stop(Reason.POSITION_EXISTS, facts.held, "0")
    if facts.spendable_usd is None:
        return _stop(Reason.BALANCE_UNREADABLE)
    if facts.quantity <= 0 or facts.notional_usd < facts.min_usd:
        return _stop(Reason.BELOW_MINIMUM, f"{facts.notional_usd:.2f} USD", f"{facts.min_usd:.2f} USD")
    if facts.notional_usd > facts.spendable_usd:
        return _stop(
            Reason.INSUFFICIENT_BALANCE, f"{facts.spendable_usd:.2f} USD", f"{facts.notional_usd:.2f} USD"
        )
    return PASS


Check = Callable[[Facts, RiskPolicy], Verdict]
CHECKS_BEFORE_VENUE: tuple[Check, ...] = (
    check_gate,
    check_duplicate,
    check_throttles,
    check_price,
    check_exposure,
    check_owner,
    check_price_band,
    check_volatility_band,
    check_risk_score,
)
"""The checks that need no answer of the venue."""
CHECKS: tuple[Check, ...] = (*CHECKS_BEFORE_VENUE, check_slippage, check_venue)


def check_before_venue(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Return the first failure among `CHECKS_BEFORE_VENUE`, or a pass."""
    return _first_failure(CHECKS_BEFORE_VENUE, facts, policy)


def check(facts: Facts, policy: RiskPolicy) -> Verdict:
    """Return the first failure among `CHECKS`, or a pass."""
    return _first_failure(CHECKS, facts, policy)


def _first_failure(checks: tuple[Check, ...], facts: Facts, policy: RiskPolicy) -> Verdict:
    for one in checks:
        verdict = one(facts, policy)
        if not verdict.allowed:
            return verdict
    return PASS
