"""The result of a preview: counts, returns, costs and trades of its only deployment, read from the scratch database."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Count, Prefetch, QuerySet

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, plain, usdc
from maxxit.llm.policy import policy as llm_policy
from maxxit.replay.stored import StoredDays
from maxxit.reports.performance import curve_rows
from maxxit.reports.trades.reasons import explain
from positions.models import Position
from positions.performance import parts
from positions.performance.report import Performance, performance
from positions.states import PositionState
from signals_app.models import CtPost, Signal
from signals_app.policy import policy as signals_policy
from signals_app.reading.rules.read import VERSION as READER
from signals_app.states import SignalState
from trading.models import Order
from trading.states import OrderState

CURVE_POINTS = 200
FEW_TRADES = 20
"""With fewer closed trades a result says little: the same number from which an APR is shown."""
TEXT = 280
"""Characters of a post that are kept with a trade."""


def result_of(
    days: StoredDays, deployment: Deployment, names: Sequence[str], symbols: Sequence[str]
) -> dict[str, Any]:
    """Return what `deployment` did over the days, for people and programs. Amounts are USDC as decimal strings.

    Args:
        names: the accounts that were asked for; one without posts is named in the notes.
        symbols: the tokens that could be traded.
    """
    with clock.frozen(days.end):
        figures = performance([deployment.pk])
    priced = {tick.symbol for ticks in days.closes.values() for tick in ticks}
    closed = list(_trades())
    tokens = CtPost.objects.filter(is_signal_candidate=True).values_list("tokens", flat=True)
    called = {token for several in tokens for token in several}
    unpriced = sorted(called & set(symbols) - priced)
    by_result = sorted(closed, key=lambda row: (row.net, row.pk))
    posts = CtPost.objects.all()
    calls = posts.filter(is_signal_candidate=True)
    skipped = Signal.objects.filter(state=SignalState.SKIPPED).exclude(pk__in=Order.objects.values("signal"))
    return {
        "start": iso_utc(days.start),
        "end": iso_utc(days.end),
        "reader": llm_policy().provider("rules").model or READER,
        "posts": posts.count(),
        "calls": calls.count(),
        "signals": Signal.objects.count(),
        "declined": _reasons(calls.filter(signals=None).values_list("outcome"), skipped),
        "orders": Order.objects.filter(purpose="open").count(),
        "blocked": _counted(Order.objects.filter(purpose="open", state=OrderState.BLOCKED), "reason"),
        "trades": len(closed),
        "open": Position.objects.exclude(state=PositionState.CLOSED).count(),
        "capital": plain(deployment.starting_balance),
        "equity": plain(usdc(figures.equity)),
        "pnl": plain(usdc(figures.pnl)),
        "pnl_open": plain(usdc(figures.open_pnl)),
        "costs": _costs(figures),
        "twr": None if figures.twr is None else f"{figures.twr:.6f}",
        "max_drawdown": None if figures.drawdown is None else f"{figures.drawdown.percent / 100:.6f}",
        "win_rate": _win_rate(figures),
        "winners": int(figures.statistics.winners),
        "curve": curve_rows(figures.curve, CURVE_POINTS),
        "best": _trade(by_result[-1]) if by_result and by_result[-1].net > 0 else None,
        "worst": _trade(by_result[0]) if by_result and by_result[0].net < 0 else None,
        "by_account": _by_account(days, names),
        "by_token": [_part(part) for part in parts.attribution("token")],
        "by_exit": [_part(part) for part in parts.attribution("exit_reason")],
        "unpriced": unpriced,
        "notes": notes(days, names, len(closed), unpriced),
    }  # fmt: skip


def notes(days: StoredDays, names: Sequence[str], closed: int, unpriced: Sequence[str]) -> list[str]:
    """Return what a reader of the result has to know, each a sentence."""
    posts = days.posts_by_account()
    with_posts = {name.lower() for name in posts}
    texts = [
        f"There are no recorded posts of @{name} in this time."
        for name in names
        if name.lower() not in with_posts
    ]
    limit = signals_policy().generate.max_post_age_hours
    late = sum(
        (one.at - one.post.posted_at).total_seconds() > limit * 3600
        for one in days.arrivals
        if not one.post.deleted
    )
    if late:
        texts.append(
            f"{late} posts arrived more than {limit} hours after they were written; such posts are not traded."
        )
    if unpriced:
        texts.append(
            f"No prices of {', '.join(unpriced)} are recorded in this time: posts about them are not traded."
        )
    first = min(days.closes)
    if (first - days.start).total_seconds() > 3600:
        texts.append(f"Prices are recorded only from {first:%Y-%m-%d %H:%M} UTC on.")
    if closed < FEW_TRADES:
        texts.append(
            f"{closed} closed trade{'' if closed == 1 else 's'}: fewer than {FEW_TRADES} say little about an account."
        )
    return texts


def _trades() -> QuerySet[Position]:
    rows = Position.objects.filter(state=PositionState.CLOSED).select_related("signal")
    return rows.prefetch_related(
        Prefetch("signal__posts", CtPost.objects.select_related("account").order_by("pk"))
    )


def _trade(row: Position) -> dict[str, Any]:
    posts = row.signal.posts.all() if row.signal else ()
    return {
        "token": row.symbol,
        "side": row.side,
        "opened_at": iso_utc(row.opened_at),
        "closed_at": iso_utc(row.closed_at) if row.closed_at else None,
        "entry_price": plain(row.entry_price),
        "exit_price": None if row.exit_price is None else plain(row.exit_price),
        "exit_reason": row.exit_reason,
        "pnl": plain(usdc(row.net)),
        "posts": [{"account": post.account.x_username, "text": post.text[:TEXT]} for post in posts],
    }


def _costs(figures: Performance) -> dict[str, str]:
    closed = figures.closed
    costs = {
        name: getattr(closed, name)
        for name in ("venue_fees", "platform_fees", "profit_share", "slippage_usd")
    }
    return {name: plain(usdc(value)) for name, value in costs.items()} | {"total": plain(usdc(closed.costs))}


def _win_rate(figures: Performance) -> dict[str, str] | None:
    """Return win rate with its Wilson 95 % interval, as fractions; None without a closed trade."""
    row = figures.statistics
    if row.win_rate is None:
        return None
    bounds = {"value": row.win_rate, "low": row.win_rate_low, "high": row.win_rate_high}
    return {name: f"{value or ZERO:.4f}" for name, value in bounds.items()}


def _part(part: parts.Part) -> dict[str, Any]:
    rate = part.win_rate
    return {
        "name": part.label,
        "trades": plain(part.closed.quantize(Decimal("0.01"))),
        "pnl": plain(usdc(part.net)),
        "win_rate": None if rate is None else f"{rate:.4f}",
    }


def _by_account(days: StoredDays, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return posts, calls and the share of the results of each account, in the order in which they were asked for."""
    calls = Counter(
        {
            name.lower(): count
            for name, count in CtPost.objects.filter(is_signal_candidate=True)
            .values_list("account__x_username")
            .annotate(count=Count("pk"))
            .order_by()
        }
    )
    posts = Counter({name.lower(): count for name, count in days.posts_by_account().items()})
    spelling = {account.name.lower(): account.name for account in days.accounts}
    results = {part.label.lstrip("@").lower(): _part(part) for part in parts.attribution("author")}
    rows = []
    for name in names:
        key = name.lower()
        part = results.pop(key, {"trades": "0", "pnl": "0", "win_rate": None})
        rows.append({**part, "name": spelling.get(key, name), "posts": posts[key], "calls": calls[key]})
    if "no post" in results:  # signals of the indicators alone
        rows.append({**results["no post"], "name": "", "posts": 0, "calls": 0})
    return rows


def _counted(rows: QuerySet[Any], field: str) -> list[dict[str, Any]]:
    return _explained(Counter(rows.order_by().values_list(field, flat=True)))


def _reasons(outcomes: Any, signals: QuerySet[Signal]) -> list[dict[str, Any]]:
    counts = Counter(outcome for (outcome,) in outcomes)
    return _explained(counts + Counter(signals.order_by().values_list("reason", flat=True)))


def _explained(counts: Counter[str]) -> list[dict[str, Any]]:
    """Return reasons with their meaning, the most frequent first."""
    return [
        {"reason": reason, "count": count, "meaning": explain(reason)[0]}
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if reason
    ]
