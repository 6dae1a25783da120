"""What pulls the kill switch by itself: losses, drawdown, stale prices, drift, too many blocked orders.

Each cause latches once. A person's release quiets its cause for an hour, so that a release is not undone by the
next look, and a cause that is still there after that must be released again, knowingly.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import connection

from maxxit.core import clock
from maxxit.core.errors import Retryable, Unknown
from maxxit.core.money import USDC, ZERO
from maxxit.market import quotes
from maxxit.market.models import Quote
from positions.performance import total_equity
from trading import gate, reconcile
from trading.models import KillSwitch, Order
from trading.policy import Triggers, policy
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

QUIET_AFTER_RELEASE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Health:
    """What the triggers look at. Amounts in USD over all deployments; None means it could not be read."""

    equity: Decimal
    pnl: Decimal
    """Equity less all that was paid in."""
    pnl_at_midnight: Decimal
    equity_at_midnight: Decimal
    """With what was paid in since, so that a deposit is no gain."""
    best_pnl: Decimal
    """The highest `pnl` of any midnight, at least zero."""
    price_age: timedelta | None
    """Of the oldest price among the tokens that are held; None where none is held."""
    drift_usd: Decimal | None
    entries_decided: int
    entries_blocked: int


@dataclass(frozen=True, slots=True)
class Pull:
    """A reason to pull the switch."""

    cause: str
    level: str
    measured: str
    limit: str


def decide(health: Health, rules: Triggers) -> list[Pull]:
    """Every trigger that its limit has been reached for. Pure."""
    found = []
    lost = health.pnl_at_midnight - health.pnl
    fallen = health.best_pnl - health.pnl
    peak = health.equity + fallen
    for cause, part, whole, rule in (
        ("daily_loss", lost, health.equity_at_midnight, rules.daily_loss),
        ("drawdown", fallen, peak, rules.drawdown),
    ):
        if whole > 0 and part * 100 >= whole * rule.limit_pct:
            found.append(Pull(cause, rule.level, f"{part * 100 / whole:.2f} %", f"{rule.limit_pct} %"))
    age, stale = health.price_age, rules.stale_prices
    if age is not None and age.total_seconds() >= stale.limit_seconds:
        found.append(
            Pull("stale_prices", stale.level, f"{age.total_seconds():.0f} s", f"{stale.limit_seconds} s")
        )
    drift, most = health.drift_usd, rules.ledger_drift
    if drift is None or drift >= most.limit_usd:
        found.append(
            Pull(
                "ledger_drift",
                most.level,
                "unreadable" if drift is None else f"{drift:.2f} USD",
                f"{most.limit_usd} USD",
            )
        )
    rate = rules.blocked_rate
    if health.entries_decided >= rate.min_orders:
        share = Decimal(health.entries_blocked * 100) / health.entries_decided
        if share >= rate.limit_pct:
            found.append(Pull("blocked_rate", rate.level, f"{share:.0f} %", f"{rate.limit_pct} %"))
    return found


def watch() -> list[str]:
    """Look, and pull the switch for every cause that is not latched or quiet; returns the causes pulled now."""
    pulled = []
    for pull in decide(read(), policy().triggers):
        if _quiet(pull.cause):
            continue
        reason = f"{pull.cause} is {pull.measured}, the limit is {pull.limit}"
        gate.kill(pull.level, by="maxxit", reason=reason, cause=pull.cause)
        log.critical("kill_switch_pulled", cause=pull.cause, measured=pull.measured, limit=pull.limit)
        pulled.append(pull.cause)
    return pulled


def _quiet(cause: str) -> bool:
    last = KillSwitch.objects.filter(cause=cause).order_by("-pk").first()
    if last is None:
        return False
    return last.released_at is None or clock.now() - last.released_at < QUIET_AFTER_RELEASE


FLOWS = """
SELECT coalesce((SELECT sum(CASE m.asset WHEN 'USDC' THEN m.amount ELSE m.amount * q.price END)
                 FROM ledger_entries x
                 JOIN ledger_entries m USING (journal, asset, kind) LEFT JOIN quotes q ON q.symbol = m.asset
                 WHERE x.account = 'external' AND x.kind IN ('deposit', 'external')
                   AND m.account LIKE 'deployment:%%'), 0),
       coalesce((SELECT sum(equity - deposits) FROM pnl_snapshots WHERE day = %(yesterday)s), 0),
       coalesce((SELECT max(d.total)
                 FROM (SELECT sum(equity - deposits) AS total FROM pnl_snapshots GROUP BY day) AS d), 0)
"""
ENTRIES = """
SELECT count(*), count(*) FILTER (WHERE state = 'blocked')
FROM orders
WHERE purpose = 'open' AND state <> 'planned' AND created_at > %(since)s
  AND reason NOT IN ('dry_run', 'not_approved', 'kill_switch')
"""


def read() -> Health:
    """The figures of this moment."""
    now = clock.now()
    window = timedelta(seconds=policy().triggers.blocked_rate.window_seconds)
    with connection.cursor() as cursor:
        cursor.execute(FLOWS, {"yesterday": (now - timedelta(days=1)).date()})
        deposits, at_midnight, best = cursor.fetchone()
        cursor.execute(ENTRIES, {"since": now - window})
        decided, blocked = cursor.fetchone()
    equity = total_equity()
    return Health(
        equity=equity,
        pnl=equity - deposits,
        pnl_at_midnight=at_midnight,
        equity_at_midnight=at_midnight + deposits,
        best_pnl=max(best, ZERO),
        price_age=_oldest_price(now),
        drift_usd=_drift(),
        entries_decided=decided,
        entries_blocked=blocked,
    )


def _oldest_price(now: datetime) -> timedelta | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT symbol FROM positions WHERE state <> 'closed'")
        held = [symbol for (symbol,) in cursor.fetchall()]
    if not held:
        return None
    seen = dict(Quote.objects.filter(symbol__in=held).values_list("symbol", "at"))
    return max(now - seen[symbol] if symbol in seen else timedelta.max for symbol in held)


def _drift() -> Decimal | None:
    """Venue against ledger in USD at the newest quotes; None when a venue could not be read."""
    if Order.objects.filter(state__in=IN_FLIGHT).exists():
        return ZERO  # fills may be on their way: nothing to compare until they are booked
    try:
        found = reconcile.drifts(book_owners=True)
    except (Retryable, Unknown) as error:
        log.warning("venue_not_read", error=str(error))
        return None
    assets = {name.rpartition(" ")[2] for name in found}
    prices = {
        symbol: quote.price for symbol, quote in quotes.latest(sorted(assets), closing=True).items()
    } | {USDC: Decimal(1)}
    return sum(
        (abs(amount) * prices.get(name.rpartition(" ")[2], ZERO) for name, amount in found.items()), ZERO
    )
