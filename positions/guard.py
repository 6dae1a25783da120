"""The automatic triggers of the kill switch: losses, drawdown, stale prices, drift, stuck orders, abnormal refusals.

Each is measured per account and stops that account. The platform has ceilings of its own, which one account alone
never reaches. A cause latches once for each account (or the platform); a person's release quiets it there for an hour,
so that a release is not undone by the next look, and a cause that is still there after that must be released again,
knowingly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import structlog
from django.db.models import Q

from maxxit.core import clock
from maxxit.core.money import ZERO
from positions.health import AccountHealth, Health, read
from trading import gate
from trading.limits_in_force import protective_limits
from trading.models import KillSwitch
from trading.policy import PlatformTriggers, RateTrigger, Triggers

log = structlog.get_logger(__name__)

QUIET_AFTER_RELEASE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pull:
    """A reason to pull the switch."""

    cause: str
    level: str
    measured: str
    limit: str
    account: str = ""
    """Empty: the whole platform."""


def decide(health: Health, rules: Triggers) -> list[Pull]:
    """Every trigger whose limit has been reached, the platform's first. Pure."""
    away = _away(health, rules.platform)
    mine = [pull for account in health.accounts for pull in _of_account(account, rules, set(away))]
    return [*_of_platform(health, away, mine, rules.platform), *mine]


def _away(health: Health, rules: PlatformTriggers) -> dict[str, str]:
    """The venues of which most accounts cannot be read, each with how many."""
    most = rules.unreadable_venue
    return {
        one.venue: f"{one.unread} of {one.accounts} accounts of {one.venue}"
        for one in health.venues
        if one.unread >= most.min_accounts and one.unread * 100 >= one.accounts * most.limit_pct
    }


def _of_account(one: AccountHealth, rules: Triggers, away: set[str]) -> Iterator[Pull]:
    """What stops one account. What a venue that is `away` as a whole does not say stops the platform instead."""

    def pull(cause: str, level: str, measured: str, limit: str) -> Pull:
        return Pull(cause, level, measured, limit, one.account)

    loss, drawdown, drift, stuck = rules.daily_loss, rules.drawdown, rules.ledger_drift, rules.stuck_order
    if lost := _share(one.lost_today, one.equity_at_midnight, loss.limit_pct):
        yield pull("daily_loss", loss.level, lost, f"{loss.limit_pct} %")
    if fallen := _share(one.fallen, one.peak, drawdown.limit_pct):
        yield pull("drawdown", drawdown.level, fallen, f"{drawdown.limit_pct} %")
    if _longer(one.price_age, rules.stale_prices.limit_seconds):
        yield pull(
            "stale_prices", rules.stale_prices.level, *_ages(one.price_age, rules.stale_prices.limit_seconds)
        )
    if one.drift_usd >= drift.limit_usd:
        yield pull("ledger_drift", drift.level, f"{one.drift_usd:.2f} USD", f"{drift.limit_usd} USD")
    elif one.unread and one.unread not in away:
        yield pull("ledger_drift", drift.level, f"unreadable ({one.unread})", f"{drift.unreadable_seconds} s")
    if _longer(one.unknown_for, stuck.unknown_seconds):
        yield pull("stuck_order", stuck.level, *_ages(one.unknown_for, stuck.unknown_seconds))
    elif _longer(one.in_flight_for, stuck.in_flight_seconds):
        yield pull("stuck_order", stuck.level, *_ages(one.in_flight_for, stuck.in_flight_seconds))
    if refused := _refused([one], rules.blocked_rate):
        yield pull("blocked_rate", rules.blocked_rate.level, refused, f"{rules.blocked_rate.limit_pct} %")


def _of_platform(
    health: Health, away: dict[str, str], mine: Sequence[Pull], rules: PlatformTriggers
) -> Iterator[Pull]:
    """What stops everybody."""
    loss, drawdown, drift, stopped = (
        rules.daily_loss,
        rules.drawdown,
        rules.ledger_drift,
        rules.accounts_stopped,
    )
    rest = _all_but_worst(health.accounts, lambda one: one.lost_today)
    if lost := _share(
        _sum(a.lost_today for a in rest), _sum(a.equity_at_midnight for a in rest), loss.limit_pct
    ):
        yield Pull("daily_loss", loss.level, lost, f"{loss.limit_pct} %")
    rest = _all_but_worst(health.accounts, lambda one: one.fallen)
    if fallen := _share(_sum(a.fallen for a in rest), _sum(a.peak for a in rest), drawdown.limit_pct):
        yield Pull("drawdown", drawdown.level, fallen, f"{drawdown.limit_pct} %")
    apart = _sum(a.drift_usd for a in _all_but_worst(health.accounts, lambda one: one.drift_usd))
    if apart >= drift.limit_usd:
        yield Pull("ledger_drift", drift.level, f"{apart:.2f} USD", f"{drift.limit_usd} USD")
    rest = _all_but_worst(health.accounts, lambda one: Decimal(one.entries_abnormal))
    if refused := _refused(rest, rules.blocked_rate):
        yield Pull("blocked_rate", rules.blocked_rate.level, refused, f"{rules.blocked_rate.limit_pct} %")
    if away:
        unread = rules.unreadable_venue
        yield Pull("venue_unreadable", unread.level, ", ".join(away.values()), f"{unread.limit_pct} %")
    now_stopped = health.stopped | {pull.account for pull in mine if pull.cause != "stale_prices"}
    count, share = len(now_stopped), Decimal(len(now_stopped) * 100) / max(len(health.accounts), 1)
    many = count >= stopped.min_accounts and share >= stopped.limit_pct
    if many or count >= stopped.limit_accounts:
        limit = f"{stopped.limit_accounts} accounts or {stopped.limit_pct} %"
        yield Pull("accounts_stopped", stopped.level, f"{count} accounts ({share:.0f} %)", limit)


def _share(part: Decimal, whole: Decimal, limit_pct: Decimal) -> str:
    """The share in percent where it has reached the limit, otherwise empty."""
    return f"{part * 100 / whole:.2f} %" if whole > 0 and part * 100 >= whole * limit_pct else ""


def _longer(age: timedelta | None, seconds: int) -> bool:
    return age is not None and age.total_seconds() >= seconds


def _ages(age: timedelta | None, seconds: int) -> tuple[str, str]:
    """(measured, limit) in words."""
    return (f"{age.total_seconds():.0f} s" if age and age < timedelta.max else "never"), f"{seconds} s"


def _refused(accounts: Iterable[AccountHealth], rule: RateTrigger) -> str:
    """The share of abnormally refused entries in percent where it has reached the limit, otherwise empty."""
    judged = [(one.entries_judged, one.entries_abnormal) for one in accounts]
    entries, refused = sum(count for count, _ in judged), sum(count for _, count in judged)
    return _share(Decimal(refused), Decimal(entries), rule.limit_pct) if entries >= rule.min_orders else ""


def _all_but_worst(
    accounts: Sequence[AccountHealth], measure: Callable[[AccountHealth], Decimal]
) -> list[AccountHealth]:
    """The accounts without the one that is worst by `measure`: its trouble is its own, not the platform's."""
    worst = max(accounts, key=measure, default=None)
    return [one for one in accounts if one is not worst]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


def watch() -> list[str]:
    """Look, and pull the switch for every cause that is not latched or quiet; returns the causes pulled now."""
    quiet = _quiet()
    pulls = [
        one for one in decide(read(), protective_limits().triggers) if (one.account, one.cause) not in quiet
    ]
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
    return list(dict.fromkeys(one.cause for one in pulls))


def _quiet() -> set[tuple[str, str]]:
    """(account, cause) that are latched, or that a person released within the last hour."""
    released = Q(released_at__gt=clock.now() - QUIET_AFTER_RELEASE)
    standing = KillSwitch.objects.filter(Q(released_at=None) | released)
    return set(standing.values_list("account", "cause"))
