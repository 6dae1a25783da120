"""`config/risk.yaml`, typed. Every limit must be there: a missing one stops the program, none is ever off."""

from decimal import Decimal
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, model_validator

from maxxit.core.config import Count, Percent, Policy, Seconds, Usd, load
from maxxit.core.terms import ExitPreset, KillLevel, Preset
from maxxit.market.instruments import all_instruments


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
    """How large an entry is: percent of the available balance by confidence, and its bounds."""

    high_pct: Percent
    medium_pct: Percent
    low_pct: Percent
    max_pct: Percent
    reserve_pct: Percent
    max_usd: Usd
    min_usd: Usd


class Exits(Policy):
    """When a position leaves. `take_profit_pct` and `stop_loss_pct` unset: the signal's own."""

    take_profit_pct: Percent | None = None
    stop_loss_pct: Percent | None = None
    hard_stop_pct: Percent | None = None
    trailing_activation_pct: Percent | None = None
    trailing_pct: Percent | None = None
    max_holding_minutes: Count

    @model_validator(mode="after")
    def _whole_trail(self) -> "Exits":
        if (self.trailing_activation_pct is None) != (self.trailing_pct is None):
            raise ValueError("trailing_activation_pct and trailing_pct go together: give both or neither")
        return self


class PercentTrigger(Policy):
    """Pulls the switch at a percentage."""

    limit_pct: Percent
    level: KillLevel


class SecondsTrigger(Policy):
    """Pulls the switch after a time."""

    limit_seconds: Seconds
    level: KillLevel


class UsdTrigger(Policy):
    """Pulls the switch at an amount."""

    limit_usd: Usd
    level: KillLevel


class DriftTrigger(UsdTrigger):
    """Pulls the switch at an amount, or when the account could not be read for so long."""

    unreadable_seconds: Seconds


class StuckTrigger(Policy):
    """Pulls the switch when an order stays unknown, or in flight, for longer."""

    unknown_seconds: Seconds
    in_flight_seconds: Seconds
    level: KillLevel


class RateTrigger(Policy):
    """Pulls the switch at a percentage of the last so many seconds, once there were enough orders to judge by."""

    limit_pct: Percent
    min_orders: Count
    window_seconds: Seconds
    level: KillLevel


class UnreadableTrigger(Policy):
    """Pulls the switch when such a share of one venue's accounts, and at least so many, cannot be read."""

    limit_pct: Percent
    min_accounts: Count
    level: KillLevel


class StoppedTrigger(Policy):
    """Pulls the switch when so many accounts, or such a share and at least `min_accounts`, stopped in the window."""

    limit_accounts: Count
    limit_pct: Percent
    min_accounts: Count
    window_seconds: Seconds
    level: KillLevel


class PlatformTriggers(Policy):
    """What stops the whole platform: never one account alone."""

    daily_loss: PercentTrigger
    drawdown: PercentTrigger
    ledger_drift: UsdTrigger
    blocked_rate: RateTrigger
    unreadable_venue: UnreadableTrigger
    accounts_stopped: StoppedTrigger


class Triggers(Policy):
    """Automatic triggers of the kill switch, for the account that they are measured on."""

    daily_loss: PercentTrigger
    drawdown: PercentTrigger
    stale_prices: SecondsTrigger
    ledger_drift: DriftTrigger
    stuck_order: StuckTrigger
    blocked_rate: RateTrigger
    platform: PlatformTriggers


class VolatilityBand(Policy):
    """How far the price may have moved from the signal's, in typical moves of one bar."""

    method: Literal["std", "ewma", "atr"]
    multiplier: Annotated[Decimal, Field(ge=Decimal("0.5"), le=20)]


class Fees(Policy):
    """What the platform takes."""

    platform_fee_usdc: Annotated[Decimal, Field(ge=0, le=Decimal("0.2"))]


class SymbolLimits(Policy):
    """What is different for one token; what is not given is as for all."""

    max_orders_per_symbol_per_day: Count | None = None
    cooldown_seconds_per_symbol: Seconds | None = None
    max_symbol_exposure_usd: Usd | None = None
    max_trade_usd: Usd | None = None
    price_band_pct: Percent | None = None
    max_slippage_pct: Percent | None = None


class RiskPolicy(Policy):
    """The whole file."""

    loosen_after_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)]
    """Until a looser limit is in force. A stricter one holds at once."""
    account: AccountLimits
    platform: PlatformLimits
    triggers: Triggers
    symbols: dict[str, SymbolLimits]
    max_trade_usd: Usd
    price_band_pct: Percent
    max_slippage_pct: Percent
    volatility_band: VolatilityBand
    allow_add_to_position: bool
    order_deadline_seconds: Seconds
    sizing: dict[Preset, Sizing]
    exits: dict[ExitPreset, Exits]
    fees: Fees

    @model_validator(mode="after")
    def _every_preset(self) -> "RiskPolicy":
        for key, there, presets in (("sizing", self.sizing, Preset), ("exits", self.exits, ExitPreset)):
            if missing := set(presets) - set(there):
                raise ValueError(f"{key} lacks {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _known_symbols(self) -> "RiskPolicy":
        if unknown := set(self.symbols) - set(all_instruments()):
            raise ValueError(f"symbols: {', '.join(sorted(unknown))} is not in config/markets.yaml")
        return self

    def of(self, symbol: str) -> "RiskPolicy":
        """The policy with the exceptions for `symbol` in place. The platform's own limits know no exception."""
        found = self.symbols.get(symbol)
        if found is None:
            return self
        given = found.model_dump(exclude_none=True)
        mine = {name: value for name, value in given.items() if name in AccountLimits.model_fields}
        rest = {name: value for name, value in given.items() if name not in mine}
        return self.model_copy(update=rest | {"account": self.account.model_copy(update=mine)})


@cache
def policy() -> RiskPolicy:
    """The policy in force. Raises `Misconfigured` naming the missing or wrong key."""
    return load("risk", RiskPolicy)
