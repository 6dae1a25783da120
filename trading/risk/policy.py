"""The risk policy: `config/risk.yaml`, typed. A missing limit stops the program at start; none can be switched off.

`STRICTER` says for each key which direction of a change waits (`trading.operations.limit_changes`).
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agents.fees import Occasion, ProfitShare, Rule, misfit, not_collected
from maxxit.core.config import Count, Fraction, Percent, Policy, Seconds, Usd, load
from maxxit.core.errors import Misconfigured
from maxxit.core.money import ZERO
from maxxit.core.terms import ExitPreset, KillLevel, Preset
from maxxit.market.instruments import all_instruments
from trading.perps.rules import LiquidationWarning, RoomTrigger

Weight = Annotated[Decimal, Field(gt=0, le=1)]


class AccountLimits(Policy):
    """Counted per account at a venue."""

    max_orders_per_minute: Count
    max_orders_per_symbol_per_day: Count
    max_open_orders: Count
    cooldown_seconds_per_symbol: Seconds
    max_total_exposure_usd: Usd
    max_symbol_exposure_usd: Usd


class PlatformLimits(Policy):
    """Counted over all accounts together."""

    max_orders_per_minute: Count
    max_open_orders: Count
    max_total_exposure_usd: Usd
    max_symbol_exposure_usd: Usd


class Sizing(Policy):
    """One sizing preset: percent of the available balance by confidence tier, and bounds in USD."""

    high_pct: Percent
    medium_pct: Percent
    low_pct: Percent
    max_pct: Percent
    reserve_pct: Percent
    max_usd: Usd
    min_usd: Usd


class Exits(Policy):
    """One exit preset. Where `take_profit_pct` or `stop_loss_pct` is unset, the signal's value applies."""

    take_profit_pct: Percent | None = None
    stop_loss_pct: Percent | None = None
    hard_stop_pct: Percent | None = None
    trailing_activation_pct: Percent | None = None
    trailing_pct: Percent | None = None
    max_holding_minutes: Count

    @model_validator(mode="after")
    def _complete_trailing_stop(self) -> "Exits":
        if (self.trailing_activation_pct is None) != (self.trailing_pct is None):
            raise ValueError("trailing_activation_pct and trailing_pct go together: give both or neither")
        return self

    def stop_pct(self, of_signal: Decimal) -> Decimal:
        """Return how far the stop loss is from the entry price, percent: the preset's own, else the signal's.

        It is never further away than `hard_stop_pct`.
        """
        stop = self.stop_loss_pct or of_signal
        return stop if self.hard_stop_pct is None else min(stop, self.hard_stop_pct)

    def target_pct(self, of_signal: Decimal) -> Decimal:
        """Return how far the take profit is from the entry price, percent: the preset's own, else the signal's."""
        return self.take_profit_pct or of_signal


class PercentTrigger(Policy):
    """Kill-switch trigger at a percentage."""

    limit_pct: Percent
    level: KillLevel


class SecondsTrigger(Policy):
    """Kill-switch trigger after a time."""

    limit_seconds: Seconds
    level: KillLevel


class UsdTrigger(Policy):
    """Kill-switch trigger at an amount."""

    limit_usd: Usd
    level: KillLevel


class DriftTrigger(UsdTrigger):
    """Kill-switch trigger at a ledger drift, or when the account could not be read for `unreadable_seconds`."""

    unreadable_seconds: Seconds


class StuckTrigger(Policy):
    """Kill-switch trigger for an order that stays unknown, or in flight, for longer."""

    unknown_seconds: Seconds
    in_flight_seconds: Seconds
    level: KillLevel


class RateTrigger(Policy):
    """Kill-switch trigger at a share of the orders of the last `window_seconds`, if there were `min_orders`."""

    limit_pct: Percent
    min_orders: Count
    window_seconds: Seconds
    level: KillLevel


class UnreadableTrigger(Policy):
    """Kill-switch trigger when this share of one venue's accounts, and at least `min_accounts`, cannot be read."""

    limit_pct: Percent
    min_accounts: Count
    level: KillLevel


class StoppedTrigger(Policy):
    """Kill-switch trigger when this many accounts, or this share and `min_accounts`, were stopped in the window."""

    limit_accounts: Count
    limit_pct: Percent
    min_accounts: Count
    window_seconds: Seconds
    level: KillLevel


class PlatformTriggers(Policy):
    """Triggers of the platform's kill switch. One account alone never reaches them."""

    daily_loss: PercentTrigger
    drawdown: PercentTrigger
    ledger_drift: UsdTrigger
    blocked_rate: RateTrigger
    unreadable_venue: UnreadableTrigger
    accounts_stopped: StoppedTrigger


class Triggers(Policy):
    """Automatic triggers of an account's kill switch, and the platform's."""

    daily_loss: PercentTrigger
    drawdown: PercentTrigger
    stale_prices: SecondsTrigger
    ledger_drift: DriftTrigger
    stuck_order: StuckTrigger
    blocked_rate: RateTrigger
    near_liquidation: RoomTrigger
    platform: PlatformTriggers


class VolatilityBand(Policy):
    """How far the price may have moved since the signal, in multiples of the volatility per bar."""

    method: Literal["std", "ewma", "atr"]
    multiplier: Annotated[Decimal, Field(ge=Decimal("0.5"), le=20)]


class ScoreWeights(Policy):
    """How much each part of the risk score counts; together 1."""

    position: Weight
    volatility: Weight
    cvar: Weight
    confidence: Weight

    @model_validator(mode="after")
    def _whole(self) -> "ScoreWeights":
        if (total := sum(self.model_dump().values())) != 1:
            raise ValueError(f"the weights are {total} together; they have to be 1")
        return self


class RiskScore(Policy):
    """The risk score of entries (checklist C37). Off unless `enabled`."""

    enabled: bool
    horizon_hours: Annotated[int, Field(ge=1, le=168)]
    """Of the volatility model whose forecast is used."""
    max_position_pct: Percent
    """Of the account's equity: a larger entry is blocked."""
    max_volatility_pct: Percent
    """Forecast standard deviation over the horizon: above it an entry is blocked."""
    max_cvar_pct: Percent
    """Expected shortfall of the position at which this part of the score is 1."""
    min_signal_confidence: Fraction
    """A signal below it is blocked."""
    max_correlation: Annotated[Decimal, Field(gt=0, le=1)]
    """With a token that the account holds: from it on an entry is blocked."""
    review_from: Annotated[Decimal, Field(gt=0, le=1)]
    """From this score on an entry waits for its owner's yes."""
    weights: ScoreWeights


class Fees(Policy):
    """What the platform takes: a model of `agents.fees` for each occasion."""

    trade: Rule
    """Charged once per trade, at its entry, on what was traded."""
    profit: Rule = ProfitShare(model="profit_share", minimum_usdc=Decimal(0))
    """Charged when a position closes, on the profit beyond the loss carry-forward; the rate is the agent's."""

    @model_validator(mode="before")
    @classmethod
    def _former_key(cls, values: Any) -> Any:
        """`platform_fee_usdc: 0.2` says what `trade: {model: flat, amount_usdc: 0.2}` says, for one more release."""
        if not isinstance(values, dict) or "platform_fee_usdc" not in values:
            return values
        given = dict(values)
        return given | {"trade": {"model": "flat", "amount_usdc": given.pop("platform_fee_usdc")}}

    @model_validator(mode="after")
    def _fitting(self) -> "Fees":
        rules: dict[Occasion, Rule] = {"trade": self.trade, "profit": self.profit}
        for occasion, rule in rules.items():
            if problem := misfit(occasion, rule):
                raise ValueError(f"{occasion}: {problem}")
        return self

    @property
    def module_fee_usdc(self) -> Decimal:
        """The fee per trade for the policy of a Safe's module, which knows a flat fee and a profit share only.

        Raises `Misconfigured` naming the key where another model is configured.
        """
        if problem := not_collected(self.trade, self.profit):
            raise Misconfigured(f"fees.{problem}")
        return self.trade.charge(ZERO)


class SymbolLimits(Policy):
    """Exceptions for one token; an unset limit is the general one."""

    max_orders_per_symbol_per_day: Count | None = None
    cooldown_seconds_per_symbol: Seconds | None = None
    max_symbol_exposure_usd: Usd | None = None
    max_trade_usd: Usd | None = None
    price_band_pct: Percent | None = None
    max_slippage_pct: Percent | None = None
    max_position_pct: Percent | None = None
    max_volatility_pct: Percent | None = None
    max_cvar_pct: Percent | None = None
    min_signal_confidence: Fraction | None = None
    max_correlation: Annotated[Decimal, Field(gt=0, le=1)] | None = None
    review_from: Annotated[Decimal, Field(gt=0, le=1)] | None = None


class RiskPolicy(Policy):
    """The contents of config/risk.yaml."""

    loosen_after_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)]
    """Delay before a looser limit takes effect; a stricter one applies at once."""
    account: AccountLimits
    platform: PlatformLimits
    triggers: Triggers
    liquidation_warning: LiquidationWarning
    symbols: dict[str, SymbolLimits]
    max_trade_usd: Usd
    price_band_pct: Percent
    max_slippage_pct: Percent
    volatility_band: VolatilityBand
    risk_score: RiskScore
    allow_add_to_position: bool
    order_deadline_seconds: Seconds
    sizing: dict[Preset, Sizing]
    exits: dict[ExitPreset, Exits]
    fees: Fees

    @model_validator(mode="after")
    def _every_preset(self) -> "RiskPolicy":
        for key, configured, presets in (("sizing", self.sizing, Preset), ("exits", self.exits, ExitPreset)):
            if missing := set(presets) - set(configured) - {ExitPreset.VOLATILITY}:
                raise ValueError(f"{key} lacks {', '.join(sorted(missing))}")
        self.exits.setdefault(ExitPreset.VOLATILITY, self.exits[ExitPreset.SIGNAL])  # files written before it
        return self

    @model_validator(mode="after")
    def _known_symbols(self) -> "RiskPolicy":
        if unknown := set(self.symbols) - set(all_instruments()):
            raise ValueError(f"symbols: {', '.join(sorted(unknown))} is not in config/markets.yaml")
        return self

    def of(self, symbol: str) -> "RiskPolicy":
        """Return the policy with the exceptions of `symbol` applied. Platform limits have no exceptions."""
        exceptions = self.symbols.get(symbol)
        if exceptions is None:
            return self
        given = exceptions.model_dump(exclude_none=True)
        account = {name: value for name, value in given.items() if name in AccountLimits.model_fields}
        of_score = {name: value for name, value in given.items() if name in RiskScore.model_fields}
        others = {name: value for name, value in given.items() if name not in account | of_score}
        parts = {
            "account": self.account.model_copy(update=account),
            "risk_score": self.risk_score.model_copy(update=of_score),
        }
        return self.model_copy(update=others | parts)


class Stricter(Enum):
    """Which direction of change makes a limit stricter."""

    LOWER = "lower"
    HIGHER = "higher"
    LEVEL = "a stricter level of the kill switch"
    FALSE = "off"
    TRUE = "on"
    CHEAPER = "a fee rule that charges nobody more"
    UNKNOWN = "none: every change waits"
    NOT_A_LIMIT = "none: it changes at once"


STRICTER: Mapping[str, Stricter] = {
    **dict.fromkeys(
        (
            "max_orders_per_minute", "max_orders_per_symbol_per_day", "max_open_orders", "max_total_exposure_usd",
            "max_symbol_exposure_usd", "max_trade_usd", "price_band_pct", "max_slippage_pct", "multiplier",
            "order_deadline_seconds", "high_pct", "medium_pct", "low_pct", "max_pct", "max_usd", "stop_loss_pct",
            "hard_stop_pct", "max_holding_minutes", "limit_pct", "limit_seconds", "limit_usd",
            "min_orders", "limit_accounts", "limit", "unknown_seconds", "in_flight_seconds", "grace_seconds",
            "min_accounts", "unreadable_seconds", "max_position_pct", "max_volatility_pct", "max_cvar_pct",
            "max_correlation", "review_from",
        ),
        Stricter.LOWER,
    ),
    **dict.fromkeys(
        (
            "cooldown_seconds_per_symbol", "reserve_pct", "min_usd", "loosen_after_seconds", "room_pct", "clear_pct",
            "min_signal_confidence",
        ),
        Stricter.HIGHER,
    ),
    "level": Stricter.LEVEL,
    "allow_add_to_position": Stricter.FALSE,
    "trade": Stricter.CHEAPER,
    "profit": Stricter.CHEAPER,
    "enabled": Stricter.TRUE,
    **dict.fromkeys(("position", "volatility", "cvar", "confidence"), Stricter.UNKNOWN),  # weights of the score
    "horizon_hours": Stricter.UNKNOWN,
    "method": Stricter.UNKNOWN,
    "window_seconds": Stricter.UNKNOWN,
    **dict.fromkeys(("take_profit_pct", "trailing_activation_pct", "trailing_pct"), Stricter.NOT_A_LIMIT),
}  # fmt: skip
"""Last part of a key -> its direction. A test checks that every key of the policy is listed."""


@cache
def policy() -> RiskPolicy:
    """Return the configured policy. Raises `Misconfigured` naming the missing or wrong key."""
    return load("risk", RiskPolicy)
