"""Answers to what a person asks in a chat or through an assistant; the same for every transport.

Each answer is read from `maxxit.reports`, limited to the rows that the person sees on the pages, and bounded in length.
What third parties wrote stands in it as a `Quotation`. Amounts are USD or USDC, times UTC.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from agents.models import Deployment
from maxxit.access.rows import visible
from maxxit.chat.foreign import Quotation, visible_text
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import brief, plain, usdc
from maxxit.notify import rules as price_rules
from maxxit.reports import authors as records
from maxxit.reports import notifications, performance, pnl
from maxxit.reports.activity.rows import Post, decision_of, reading_of
from maxxit.reports.scope import scope_of
from maxxit.reports.trades import trace as traces
from maxxit.reports.trades import trade as trades
from maxxit.reports.trades import why as reasons
from maxxit.reports.trades.trade import price_text, signed
from positions.margins import attach
from positions.models import Position
from positions.performance.equity import with_unrealised
from signals_app.evidence.effects import effects
from signals_app.forecast_use.forecasts_used import forecasts_used
from signals_app.models import CtPost, Signal
from trading import gate
from trading.deployments import confirmation
from trading.deployments.describe import deployments_data
from trading.models import Order

ROWS = 10
"""Rows of a list; an answer says how many more there are."""
QUOTED = 3
"""Posts that an answer quotes, besides one for each position of a list."""
STEPS = 25
"""Steps of a trace, the newest."""
REASONS = 10
MAX_TEXT = 3_500
"""Characters of an answer as text: a message of Telegram holds 4,096."""
DAYS = 7
MAX_DAYS = 31


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, as data and as lines of text."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: Sequence[str | Quotation] = ()

    def text(self, most: int = MAX_TEXT) -> str:
        """Return the lines as text of at most `most` characters; whole lines are left out at the end."""
        parts, size = [], 0
        for line in self.lines:
            part = line.as_text() if isinstance(line, Quotation) else line[:most]
            if size + len(part) + 1 > most - 40:
                parts.append("… More stands on the pages.")
                break
            parts.append(part)
            size += len(part) + 1
        return "\n".join(parts)


def _usd(amount: Decimal | None) -> str:
    return "unknown: a price is missing" if amount is None else f"{signed(amount)} USD"


def _json(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(usdc(amount))


def _more(total: int) -> list[str]:
    return [f"… and {total - ROWS} more"] if total > ROWS else []


# -- state and results


def status(person: Any) -> Answer:
    """Return equity, today's PnL, open positions, the state of each deployment and what stops it."""
    today = pnl.today(scope_of(person), traded=False)
    rows = visible(Deployment.objects.select_related("agent", "owner"), person).order_by("-pk")
    total = rows.count()
    deployments = deployments_data(rows[:ROWS])
    open_positions = visible(Position.objects.exclude(state="closed"), person).count()
    waiting = confirmation.waiting(Order.objects.filter(deployment__owner=person)).count()
    level = gate.kill_level()
    lines = [
        *([f"The platform is stopped ({level}): no position is opened."] if level else []),
        f"Equity: {today.equity:,.2f} USD",
        f"Today: {_usd(today.day_pnl)}, unrealised {_usd(today.unrealised)}",
        f"Open positions: {open_positions}",
        *([f"{waiting} entries wait for your confirmation on the page Confirmations."] if waiting else []),
        *(_deployment(row) for row in deployments),
        *_more(total),
    ]
    data = {
        "at": iso_utc(today.at),
        "platform_stopped": level or None,
        "equity_usd": _json(today.equity),
        "day_pnl_usd": _json(today.day_pnl),
        "unrealised_usd": _json(today.unrealised),
        "open_positions": open_positions,
        "entries_waiting_for_confirmation": waiting,
        "deployments": [
            {name: row[name] for name in ("id", "agent", "status", "venue", "account")}
            | {"stops": [{"level": one["level"], "by_owner": one["by_owner"]} for one in row["stops"]]}
            for row in deployments
        ],
        "deployments_total": total,
    }
    return Answer(data, lines)


def _deployment(row: dict[str, Any]) -> str:
    stops = ", ".join(stop["level"] for stop in row["stops"])
    return f"#{row['id']} {row['agent']} on {row['venue']}: {row['status'].lower()}" + (
        f", stopped ({stops})" if stops else ""
    )


def profit(person: Any) -> Answer:
    """Return the PnL of today, of the last seven days and of all time."""
    scope = scope_of(person)
    today, ever = pnl.today(scope, traded=False), performance.glance(scope)
    week = sum((Decimal(day["day_pnl_usd"]) for day in pnl.week(scope)), Decimal(0))
    rate = ever.closed.win_rate
    lines = [
        f"Today so far: {_usd(today.day_pnl)} ({today.closed} closed, realised {_usd(today.realised)})",
        f"The last {pnl.WEEK} ended days: {_usd(week)}",
        f"All time: {_usd(ever.books.pnl)} after all costs, {ever.closed.closed:,.0f} closed"
        + ("" if rate is None else f", win rate {rate:.0%}"),
    ]
    data = {
        "today_usd": _json(today.day_pnl),
        "today_realised_usd": _json(today.realised),
        "week_usd": _json(week),
        "all_time_usd": _json(ever.books.pnl),
        "closed": plain(ever.closed.closed),
        "win_rate": None if rate is None else f"{rate:.4f}",
    }
    return Answer(data, lines)


def daily_pnl(person: Any, days: int = DAYS) -> Answer:
    """Return today's results so far and the saved summary of each of the last `days` days, the newest first."""
    if not 1 <= days <= MAX_DAYS:
        raise Rejected(f"give 1 to {MAX_DAYS} days", code="invalid")
    scope = scope_of(person)
    today, saved = pnl.today(scope), pnl.week(scope, days)
    lines = [
        f"Today so far: {_usd(today.day_pnl)}; realised {_usd(today.realised)} of {today.closed} closed, "
        f"unrealised {_usd(today.unrealised)}, fees {today.fees:,.2f} USDC",
        *(
            f"{day['report_date']}: {_usd(Decimal(day['day_pnl_usd']))}, {day['num_trades']} closed"
            for day in saved
        ),
    ]
    return Answer({"today": today.as_json(), "days": saved}, lines)


# -- positions and trades


def positions(person: Any) -> Answer:
    """Return the open positions, the newest first, each with the post that led to it."""
    rows = visible(Position.objects.exclude(state="closed"), person)
    whole = with_unrealised(rows).select_related("deployment__agent", "entry_order")
    shown = attach(whole.order_by("-opened_at", "-pk")[:ROWS])
    total = rows.count()
    posts = _first_posts(shown)
    lines: list[str | Quotation] = [] if shown else ["No position is open."]
    items = []
    for row in shown:
        quoted = posts.get(row.signal_id or 0)
        unrealised: Decimal | None = row.unrealised  # type: ignore[attr-defined]  # by with_unrealised
        lines.append(
            f"#{row.pk} {row.side} {brief(row.quantity)} {row.symbol} ({row.deployment.agent.name}): entry "
            f"{price_text(row.entry_price)}, stop {price_text(row.stop_loss)}, target {price_text(row.take_profit)}, "
            f"unrealised {_usd(unrealised)}"
        )
        lines += [quoted] if quoted else []
        items.append(
            {
                "id": row.pk,
                "symbol": row.symbol,
                "side": row.side,
                "state": row.state,
                "agent": row.deployment.agent.name,
                "deployment": row.deployment_id,
                "quantity": plain(row.quantity),
                "entry_price_usd": plain(row.entry_price),
                "stop_loss_usd": plain(row.stop_loss),
                "take_profit_usd": plain(row.take_profit),
                "unrealised_usd": _json(unrealised),
                "opened_at": iso_utc(row.opened_at),
                "quotation": quoted.as_json() if quoted else None,
            }
        )
    return Answer({"positions": items, "total": total}, [*lines, *_more(total)])


def _first_posts(rows: Iterable[Position]) -> dict[int, Quotation]:
    """Return signal -> the quotation of its first post."""
    signals = {row.signal_id for row in rows if row.signal_id}
    pairs = Signal.posts.through.objects.filter(signal_id__in=signals).order_by("-ctpost_id")
    first = dict(pairs.values_list("signal_id", "ctpost_id"))
    posts = CtPost.objects.select_related("account").in_bulk(set(first.values()))
    return {signal: Quotation.of(posts[post]) for signal, post in first.items() if post in posts}


def _quotations(posts: Iterable[CtPost]) -> list[Quotation]:
    return [Quotation.of(post) for post in posts][:QUOTED]


def why(person: Any, words: str, at: datetime | None = None) -> Answer:
    """Explain a position, what stopped an order, signal or post, or why an agent did not trade a token.

    Args:
        words: `12` or `position 12`, `order 12`, `signal 12`, `post 12`, or the name of an agent and a token.
        at: for agent and token, around when (UTC); None: now.

    Raises:
        Rejected: it names nothing that `person` may see.
    """
    first, _, rest = words.strip().partition(" ")
    if first.isdecimal() and not rest:
        return _why_traded(person, _number(first))
    if first.lower() == "position" and rest.strip().isdecimal():
        return _why_traded(person, _number(rest.strip()))
    if first.lower() in reasons.KINDS and rest.strip():
        return _why_stopped(person, first.lower(), rest.strip())
    agent, _, token = words.strip().rpartition(" ")
    if not agent:
        raise Rejected(
            "say what: a position by its number, `order 12`, `signal 12`, `post 12`, or an agent and a token, "
            "as in `Momentum ETH`",
            code="invalid",
        )
    return _why_not(person, agent.strip(), token, at or clock.now())


def _number(text: str) -> int:
    if len(text) > 18:
        raise Rejected(f"there is no number {text[:20]}", code="not_found")
    return int(text)


def _why_traded(person: Any, number: int) -> Answer:
    trade = trades.trade(number, person)
    row, signal = trade.position, trade.position.signal
    posts = list(
        CtPost.objects.filter(signals=signal).select_related("account").order_by("posted_at", "pk")[:QUOTED]
        if signal
        else []
    )
    decision = decision_of(signal) if signal else "Opened without a signal: by hand, or found at the venue."
    model = signal.risk_model if signal else {}
    rows = effects(model.get("evidence", {}), model.get("weights", {}), signal.side) if signal else []
    evidence = [*map(str, rows), *forecasts_used(model, signal.size_model if signal else {})]
    result = trade.result
    end = f"closed by {row.exit_reason.replace('_', ' ')}" if row.state == "closed" else row.state
    outcome = f"Position {row.pk} is {end}, result {_usd(result)}"
    lines: list[str | Quotation] = [decision, *evidence]
    for post in posts:
        lines += [Quotation.of(post), f"It was {reading_of(post)}."]
    lines.append(outcome)
    data = {
        "position": row.pk,
        "symbol": row.symbol,
        "side": row.side,
        "state": row.state,
        "exit_reason": row.exit_reason,
        "decision": decision,
        "evidence": evidence,
        "posts": [{"reading": reading_of(post), "quotation": Quotation.of(post).as_json()} for post in posts],
        "result_usdc": _json(result),
        "correlation_id": str(row.correlation_id),
    }
    return Answer(data, lines)


def _why_stopped(person: Any, what: str, value: str) -> Answer:
    stops = reasons.why(what, value, person)
    posts = []
    if what == "post":
        rows = visible(CtPost.objects.select_related("account"), person)
        row = rows.filter(pk=value).first() if value.isdecimal() and len(value) < 19 else None
        posts = [row or rows.filter(post_id=value).get()]
    else:
        found: Any = visible(traces.KINDS[what]._default_manager.all(), person).get(pk=value)
        signal = found if what == "signal" else found.signal
        posts = (
            list(signal.posts.select_related("account").order_by("posted_at", "pk")[:QUOTED])
            if signal
            else []
        )
    quoted = _quotations(posts)
    lines: list[str | Quotation] = [*quoted, *_reason_lines(stops)]
    lines += [] if stops else [f"Nothing stopped {what} {value}."]
    data = {
        "of": f"{what} {value}",
        "reasons": _reason_data(stops),
        "quotations": [one.as_json() for one in quoted],
    }
    return Answer(data, lines)


def _why_not(person: Any, agent: str, token: str, at: datetime) -> Answer:
    answer = reasons.not_traded(agent, token, at, person)
    posts: list[Post] = [post for row in answer.rows for post in row.posts]
    unique = list({post.id: post for post in posts}.values())[:QUOTED]
    quoted = [Quotation(post.author, post.posted_at, post.text, post.deleted) for post in unique]
    text = _own_words(answer.text, answer.reasons)
    data = {
        "agent": answer.agent,
        "token": answer.token,
        "since": iso_utc(answer.since),
        "until": iso_utc(answer.until),
        "outcome": answer.outcome,
        "answer": text,
        "reasons": _reason_data(answer.reasons),
        "quotations": [one.as_json() for one in quoted],
    }
    return Answer(data, [text, *_reason_lines(answer.reasons), *quoted])


ERRORS = frozenset({"quarantined"})
"""Codes whose measured value is the message of an error, which may repeat what a third party wrote."""


def _own_words(text: str, stops: Iterable[reasons.Stop]) -> str:
    """Return a sentence of a report; without the message of an error that it may end with."""
    if any(stop.code in ERRORS for stop in stops):
        text = text.partition(": ")[0] + ": a row was set aside after errors"
    return visible_text(text, 400)


def _reason_data(stops: Sequence[reasons.Stop]) -> list[dict[str, Any]]:
    return [
        {
            "what": visible_text(stop.what, 100),
            "code": stop.code,
            "meaning": "set aside after errors" if stop.code in ERRORS else stop.meaning,
            "measured": "" if stop.code in ERRORS else visible_text(stop.measured, 120),
            "limit": visible_text(stop.limit, 120),
            "change": stop.change,
            "who_can_change_it": str(stop.audience),
            "waiting": stop.waiting,
        }
        for stop in stops[:REASONS]
    ]


def _reason_lines(stops: Sequence[reasons.Stop]) -> list[str]:
    lines = []
    for one in _reason_data(stops):
        figures = ", ".join(f"{name} {one[name]}" for name in ("measured", "limit") if one[name])
        lines.append(f"{one['what']}: {one['meaning']}" + (f" ({figures})" if figures else ""))
    return lines


def trace(person: Any, words: str) -> Answer:
    """Return the steps of a trade, from the post to the result, in order of time.

    Args:
        words: `12` or `position 12`, `order 12`, `signal 12`, `post 12`, or a correlation id.

    Raises:
        Rejected: it names nothing that `person` may see.
    """
    first, _, rest = words.strip().partition(" ")
    what, value = (first.lower(), rest.strip()) if rest else ("position", first)
    if not rest and not first.isdecimal():
        what = "corr"
    if not value or what not in (*traces.KINDS, "corr"):
        raise Rejected(
            "say which: a position by its number, `order 12`, `signal 12`, `post 12`, or a correlation id",
            code="invalid",
        )
    found = traces.follow(traces.correlation_of(what, value, person), person)
    quoted = _quotations(found.posts)
    own = [
        step for step in traces.timeline(found) if step.kind in ("LLM", "SIGNAL", "ORDER", "FILL", "POSITION")
    ]
    steps = [
        {"at": iso_utc(step.at), "kind": step.kind, "text": _step_text(step, found)} for step in own[-STEPS:]
    ]
    data = {
        "correlation_id": str(found.correlation_id),
        "quotations": [one.as_json() for one in quoted],
        "steps": steps,
        "steps_left_out": max(0, len(own) - STEPS),
        "net_usdc": _json(found.net) if found.positions else None,
    }
    lines: list[str | Quotation] = [
        *quoted,
        *(f"{one['at'][:19].replace('T', ' ')} {one['kind'].lower()}: {one['text']}" for one in steps),
    ]
    return Answer(data, lines)


def _step_text(step: traces.Step, found: traces.Trace) -> str:
    """Return a step in our words: a model's error may repeat what it was asked."""
    if step.kind != "LLM":
        return visible_text(step.text, 300)
    call = next(one for one in found.traces if one.pk == step.pk)
    return f"{call.purpose} by {call.provider} {call.model}: {call.status}, {call.latency_ms} ms"


# -- accounts and rules


def authors(person: Any, name: str = "") -> Answer:
    """Return the leaderboard of followed accounts, or the record of one with its newest calls."""
    if not name:
        board = records.leaderboard(person, limit=ROWS)
        lines = [_standing(one) for one in board.items] or ["No account is followed yet."]
        return Answer({"accounts": [_standing_data(one) for one in board.items], "total": board.count}, lines)
    page = records.author(name, person)
    calls = page.calls[:QUOTED]
    lines_of_one: list[str | Quotation] = [
        _standing(page.standing),
        *([page.problem] if page.problem else []),
    ]
    items = []
    for call in calls:
        quoted = Quotation(page.standing.name, call.at, call.text, call.deleted)
        known = [f"{one.horizon} {one.net_pct:+.2f} %" for one in call.outcomes if one.net_pct is not None]
        lines_of_one += [
            quoted,
            f"Read as {call.side} {call.token}; " + (", ".join(known) or "no outcome yet"),
        ]
        items.append(
            {
                "token": call.token,
                "side": call.side,
                "net_pct": {one.horizon: one.net_pct for one in call.outcomes if one.net_pct is not None},
                "quotation": quoted.as_json(),
            }
        )
    data = _standing_data(page.standing) | {"problem": page.problem, "newest_calls": items}
    return Answer(data, lines_of_one)


def _standing(one: records.Standing) -> str:
    head = one.headline
    figures = (
        f"after a day hit rate {head.hit_rate.value:.0%}, mean {head.mean.value:+.2f} %, over the benchmark "
        f"{head.excess.value:+.2f} %"
        if head
        else "no measured call yet"
    )
    followed = ", followed" if one.followed else ""
    return f"@{one.name}: {one.calls} calls, {figures}{followed}"


def _standing_data(one: records.Standing) -> dict[str, Any]:
    head = one.headline
    return {
        "name": f"@{one.name}",
        "calls": one.calls,
        "followed": one.followed,
        "impact_factor": one.impact_factor,
        "after_one_day": {
            "hit_rate": head.hit_rate.value, "mean_pct": head.mean.value, "excess_pct": head.excess.value,
        } if head else None,
    }  # fmt: skip


def rules(person: Any) -> Answer:
    """Return the price rules of the person, the newest first."""
    rows = notifications.rules_of(person)
    items = [
        {
            "id": rule.rule_id,
            "symbols": rule.symbols,
            "condition": price_rules.condition_text(rule),
            "channel": rule.channel,
            "state": rule.state,
        }
        for rule in rows[:ROWS]
    ]
    lines = [
        f"{one['id']} {', '.join(one['symbols'])}: {one['condition']}, to {one['channel']} ({one['state']})"
        for one in items
    ]
    return Answer(
        {"rules": items, "total": len(rows)}, [*lines, *_more(len(rows))] or ["You have no price rule."]
    )
