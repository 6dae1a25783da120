"""Each risk limit: the file's value, the operator's override, what is in force or waits, and its highest use now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.events.models import Event
from trading.models import LimitsInForce
from trading.operations import limit_overrides
from trading.operations.limit_changes import Value, WaitingLimit, limits_by_key
from trading.operations.limit_overrides import Override
from trading.risk import limits
from trading.risk.limits import HighestUse
from trading.risk.limits_in_force import (
    UNREADABLE,
    configured_limits,
    value_text,
    values_in_force,
    waiting_limits,
)
from trading.risk.policy import STRICTER, policy

SECTIONS = {
    "platform": "Platform: all accounts together",
    "account": "Account: each account at a venue",
    "orders": "Orders",
    "triggers": "Triggers of the kill switch",
    "sizing": "Sizes of orders",
    "exits": "Exits",
    "symbols": "Exceptions of tokens",
    "fees": "Fees (changed in config/risk.yaml only)",
}
"""First part of a key -> heading; keys without a section are under `orders`."""
USES = {
    "platform.max_total_exposure_usd": "platform_exposure",
    "platform.max_symbol_exposure_usd": "platform_symbol_exposure",
    "platform.max_open_orders": "platform_open_orders",
    "platform.max_orders_per_minute": "platform_orders_last_minute",
    "account.max_total_exposure_usd": "exposure",
    "account.max_symbol_exposure_usd": "symbol_exposure",
    "account.max_open_orders": "open_orders",
    "account.max_orders_per_minute": "orders_last_minute",
    "account.max_orders_per_symbol_per_day": "symbol_orders_today",
}
"""Limit -> name of its use in `trading.risk.limits.highest_uses`."""


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit."""

    key: str
    section: str
    in_force: Value
    default: Value
    """Of config/risk.yaml."""
    stricter: str
    """Which direction makes it stricter."""
    override: Override | None = None
    waiting: WaitingLimit | None = None
    use: HighestUse | None = None

    @property
    def name(self) -> str:
        """Return the key without its section."""
        return self.key.removeprefix(f"{self.section}.")

    @property
    def editable(self) -> bool:
        """Return whether it can be overridden."""
        return not self.key.startswith(limit_overrides.FIXED)

    @property
    def used_pct(self) -> int | None:
        """Return the use in percent of the limit; None where it is not measured."""
        if self.use is None or not isinstance(self.in_force, Decimal) or not self.in_force:
            return None
        return int(self.use.value * 100 / self.in_force)

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON: values as text, times in UTC."""
        override, waiting, use = self.override, self.waiting, self.use
        return {
            "limit": self.key,
            "in_force": value_text(self.in_force),
            "default": value_text(self.default),
            "override": value_text(override.value) if override else None,
            "reason": override.reason if override else "",
            "by": override.by if override else "",
            "since": iso_utc(override.at) if override else None,
            "waiting": value_text(waiting.value) if waiting else None,
            "waiting_until": iso_utc(waiting.at) if waiting else None,
            "used": f"{use.value:f}" if use else None,
            "used_pct": self.used_pct,
            "used_by": " ".join(part for part in (use.account, use.symbol) if part) if use else "",
        }


@dataclass(frozen=True)
class Limits:
    """Every limit in its order; `problem` says why they cannot be read, which stops entries."""

    rows: list[LimitRow]
    problem: str = ""

    def sections(self) -> list[tuple[str, list[LimitRow]]]:
        """Return (heading, rows) of the sections that have rows."""
        grouped: dict[str, list[LimitRow]] = {}
        for row in self.rows:
            grouped.setdefault(row.section, []).append(row)
        return [(heading, grouped[name]) for name, heading in SECTIONS.items() if name in grouped]


def read_limits() -> Limits:
    """Return every limit; of the limits of tokens only those that differ from the general one or are overridden."""
    defaults = limits_by_key(policy())
    row = LimitsInForce.objects.first()
    try:
        configured = limits_by_key(configured_limits(row))
        in_force = values_in_force(row) if row else configured
        waiting = waiting_limits() if row else {}
        overrides = limit_overrides.overrides()
    except UNREADABLE as error:
        plain_rows = [_row(key, value, defaults, {}, {}, {}) for key, value in defaults.items()]
        return Limits(plain_rows, str(error)[:300])
    uses = limits.highest_uses(clock.now())
    values = {key: in_force.get(key, value) for key, value in configured.items()}
    return Limits(
        [
            _row(key, value, defaults, overrides, waiting, uses)
            for key, value in values.items()
            if not _is_general(key, value, values) or key in overrides or key in waiting
        ]
    )


def overridable() -> list[str]:
    """List the limits that can be overridden."""
    return [key for key in limits_by_key(policy()) if not key.startswith(limit_overrides.FIXED)]


def _is_general(key: str, value: Value, values: Mapping[str, Value]) -> bool:
    """Return whether it is a token's limit that is the general one."""
    section, _, rest = key.partition(".")
    if section != "symbols":
        return False
    name = rest.rpartition(".")[2]
    return value == values.get(f"account.{name}", values.get(name))


def _row(
    key: str,
    value: Value,
    defaults: Mapping[str, Value],
    overrides: Mapping[str, Override],
    waiting: Mapping[str, WaitingLimit],
    uses: Mapping[str, HighestUse],
) -> LimitRow:
    section = key.partition(".")[0] if "." in key else "orders"
    return LimitRow(
        key=key,
        section=section if section in SECTIONS else "orders",
        in_force=value,
        default=defaults.get(key),
        stricter=STRICTER[key.rpartition(".")[2]].value,
        override=overrides.get(key),
        waiting=waiting.get(key),
        use=uses.get(USES.get(key, "")),
    )


def last_changes(count: int = 10) -> list[dict[str, Any]]:
    """Return the newest overrides set and removed: at, limit, old, new, by, reason, whether it loosens."""

    names = ("limits.override_set", "limits.override_removed")
    rows = Event.objects.filter(subject="trading.limitsinforce/1", name__in=names).order_by("-pk")
    return [{"at": row.at, "removed": row.name.endswith("removed")} | row.data for row in rows[:count]]


def in_words(moment: datetime) -> str:
    """Return when a limit takes effect."""
    return "at once" if moment <= clock.now() else f"from {moment:%Y-%m-%d %H:%M} UTC"
