"""Pull the kill switch automatically: daily loss, drawdown, stale prices, ledger drift, stuck orders, refusals, margin.

Each trigger is measured per account and stops that account. The platform has limits of its own, which one account
alone never reaches. A cause latches once per account (or platform). After an operator's release the same cause is
ignored there for an hour, so that the next check does not undo the release; if it persists, it latches again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import structlog
from django.db.models import Q

from maxxit.core import clock
from maxxit.core.money import ZERO
from positions import loss_warnings
from positions.health import AccountHealth, Health, read
from trading import gate
from trading.models import KillSwitch
from trading.perps.rules import RoomTrigger
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import PlatformTriggers, RateTrigger, Triggers

log = structlog.get_logger(__name__)

QUIET_AFTER_RELEASE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pull:
    """A trigger that was reached: the switch to pull, with measured value and limit."""

    cause: str
    level: str
    measured: str
    limit: str
    account: str = ""
    """Empty: the whole platform."""


def decide(health: Health, rules: Triggers) -> list[Pull]:
    """Return every trigger whose limit is reached, the platform's first. Pure function."""
    unreadable = _unreadable_venues(health, rules.platform)
    pulls = [pull for account in health.accounts for pull in _account_pulls(account, rules, set(unreadable))]
    return [*_platform_pulls(health, unreadable, pulls, rules.platform), *pulls]


def _unreadable_venues(health: Health, rules: PlatformTriggers) -> dict[str, str]:
    """Return the venues whose unreadable accounts reach the platform's limit, each with a phrase for the reason."""
    limits = rules.unreadable_venue
    return {
        one.venue: f"{one.unread} of {one.accounts} accounts of {one.venue}"
        for one in health.venues
        if one.unread >= limits.min_accounts and one.unread * 100 >= one.accounts * limits.limit_pct
    }


def _account_pulls(one: AccountHealth, rules: Triggers, unreadable: set[str]) -> Iterator[Pull]:
    """Yield the triggers that stop one account.

    An account that cannot be read is not stopped if its whole venue is in `unreadable`: that stops the platform.
    """

    def pull(cause: str, level: str, measured: str, limit: str) -> Pull:
        return Pull(cause, level, measured, limit, one.account)

    loss, drawdown, drift, stuck = rules.daily_loss, rules.drawdown, rules.ledger_drift, rules.stuck_order
    if lost_pct := _pct_if_reached(one.daily_loss, one.equity_at_midnight, loss.limit_pct):
        yield pull("daily_loss", loss.level, lost_pct, f"{loss.limit_pct} %")
    if fallen_pct := _pct_if_reached(one.drawdown, one.peak, drawdown.limit_pct):
        yield pull("drawdown", drawdown.level, fallen_pct, f"{drawdown.limit_pct} %")
    if _is_over(one.price_age, rules.stale_prices.limit_seconds):
        yield pull(
            "stale_prices",
            rules.stale_prices.level,
            *_age_texts(one.price_age, rules.stale_prices.limit_seconds),
        )
    if one.drift_usd >= drift.limit_usd:
        yield pull("ledger_drift", drift.level, f"{one.drift_usd:.2f} USD", f"{drift.limit_usd} USD")
    elif one.unread and one.unread not in unreadable:
        yield pull("ledger_drift", drift.level, f"unreadable ({one.unread})", f"{drift.unreadable_seconds} s")
    if _is_over(one.unknown_for, stuck.unknown_seconds):
        yield pull("stuck_order", stuck.level, *_age_texts(one.unknown_for, stuck.unknown_seconds))
    elif _is_over(one.in_flight_for, stuck.in_flight_seconds):
        yield pull("stuck_order", stuck.level, *_age_texts(one.in_flight_for, stuck.in_flight_seconds))
    if refused := _refused_pct([one], rules.blocked_rate):
        yield pull("blocked_rate", rules.blocked_rate.level, refused, f"{rules.blocked_rate.limit_pct} %")
    yield from _margin_pulls(one, rules.near_liquidation)


def _margin_pulls(one: AccountHealth, rule: RoomTrigger) -> Iterator[Pull]:
    """Yield the trigger of a position that is near its liquidation."""
    if one.room is not None and one.room * 100 <= rule.room_pct:
        left = f"{one.room * 100:.2f} % of its margin left"
        yield Pull("near_liquidation", rule.level, left, f"{rule.room_pct} %", one.account)


def _platform_pulls(
    health: Health, unreadable: dict[str, str], account_pulls: Sequence[Pull], rules: PlatformTriggers
) -> Iterator[Pull]:
    """Yield the triggers that stop the whole platform."""
    loss, drawdown, drift, stopped = (
        rules.daily_loss,
        rules.drawdown,
        rules.ledger_drift,
        rules.accounts_stopped,
    )
    rest = _all_but_worst(health.accounts, lambda one: one.daily_loss)
    if lost_pct := _pct_if_reached(
        _sum(a.daily_loss for a in rest), _sum(a.equity_at_midnight for a in rest), loss.limit_pct
    ):
        yield Pull("daily_loss", loss.level, lost_pct, f"{loss.limit_pct} %")
    rest = _all_but_worst(health.accounts, lambda one: one.drawdown)
    if fallen_pct := _pct_if_reached(
        _sum(a.drawdown for a in rest), _sum(a.peak for a in rest), drawdown.limit_pct
    ):
        yield Pull("drawdown", drawdown.level, fallen_pct, f"{drawdown.limit_pct} %")
    drift_usd = _sum(a.drift_usd for a in _all_but_worst(health.accounts, lambda one: one.drift_usd))
    if drift_usd >= drift.limit_usd:
        yield Pull("ledger_drift", drift.level, f"{drift_usd:.2f} USD", f"{drift.limit_usd} USD")
    rest = _all_but_worst(health.accounts, lambda one: Decimal(one.entries_abnormal))
    if refused := _refused_pct(rest, rules.blocked_rate):
        yield Pull("blocked_rate", rules.blocked_rate.level, refused, f"{rules.blocked_rate.limit_pct} %")
    if unreadable:
        rule = rules.unreadable_venue
        yield Pull("venue_unreadable", rule.level, ", ".join(unreadable.values()), f"{rule.limit_pct} %")
    now_stopped = health.stopped | {pull.account for pull in account_pulls if pull.cause != "stale_prices"}
    count, share = len(now_stopped), Decimal(len(now_stopped) * 100) / max(len(health.accounts), 1)
    many = count >= stopped.min_accounts and share >= stopped.limit_pct
    if many or count >= stopped.limit_accounts:
        limit = f"{stopped.limit_accounts} accounts or {stopped.limit_pct} %"
        yield Pull("accounts_stopped", stopped.level, f"{count} accounts ({share:.0f} %)", limit)


def _pct_if_reached(part: Decimal, whole: Decimal, limit_pct: Decimal) -> str:
    """Return part / whole in percent as text if it has reached the limit, else empty."""
    return f"{part * 100 / whole:.2f} %" if whole > 0 and part * 100 >= whole * limit_pct else ""


def _is_over(age: timedelta | None, seconds: int) -> bool:
    return age is not None and age.total_seconds() >= seconds


def _age_texts(age: timedelta | None, seconds: int) -> tuple[str, str]:
    """Return (measured, limit) as text."""
    return (f"{age.total_seconds():.0f} s" if age and age < timedelta.max else "never"), f"{seconds} s"


def _refused_pct(accounts: Iterable[AccountHealth], rule: RateTrigger) -> str:
    """Return the share of abnormally refused entries as text if it has reached the limit, else empty."""
    judged = [(one.entries_judged, one.entries_abnormal) for one in accounts]
    entries, refused = sum(count for count, _ in judged), sum(count for _, count in judged)
    return (
        _pct_if_reached(Decimal(refused), Decimal(entries), rule.limit_pct)
        if entries >= rule.min_orders
        else ""
    )


def _all_but_worst(
    accounts: Sequence[AccountHealth], measure: Callable[[AccountHealth], Decimal]
) -> list[AccountHealth]:
    """Return the accounts without the worst by `measure`, so that one account alone cannot stop the platform."""
    worst = max(accounts, key=measure, default=None)
    return [one for one in accounts if one is not worst]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


def watch() -> list[str]:
    """Check all triggers and pull the kill switch for each new cause; return the causes pulled.

    A cause is new unless it is latched or was released within the last hour.
    """
    ignored = _latched_or_released()
    health, triggers = read(), protective_limits().triggers
    pulls = [one for one in decide(health, triggers) if (one.account, one.cause) not in ignored]
    switches = [
        KillSwitch(
            level=one.level,
            cause=one.cause,
            account=one.account,
            reason=f"{one.cause} is {one.measured}, the limit is {one.limit}",
            pulled_by="maxxit",
        )
        for one in pulls
    ]
    if switches:
        gate.kill_all(switches)
    for one in pulls:
        log.critical(
            "kill_switch_pulled", cause=one.cause, account=one.account, measured=one.measured, limit=one.limit
        )
    try:
        loss_warnings.warn(health, triggers)
    except Exception:  # a warning that fails costs no check
        log.exception("loss_warnings_failed")
    return list(dict.fromkeys(one.cause for one in pulls))


def _latched_or_released() -> set[tuple[str, str]]:
    """Return the (account, cause) pairs that are latched or were released within the last hour."""
    released = Q(released_at__gt=clock.now() - QUIET_AFTER_RELEASE)
    standing = KillSwitch.objects.filter(Q(released_at=None) | released)
    return set(standing.values_list("account", "cause"))
