"""The trace of a trade: every row under one correlation id, from the post over signal and orders to the PnL."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from agents.decisions import Deciders
from maxxit.access.rows import Person, sees_all, visible
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, brief, plain
from maxxit.events.models import Event
from maxxit.llm.models import LlmTrace
from maxxit.reports import model_calls
from maxxit.reports.schemas import TradeTraceOut
from positions.margins import attach
from positions.models import Position
from positions.performance.equity import with_unrealised
from signals_app.evidence.effects import SCALE, effects
from signals_app.forecast_use.forecasts_used import forecasts_used
from signals_app.models import CtPost, Signal
from trading.models import Fill, LedgerEntry, Order

KINDS = {"post": CtPost, "signal": Signal, "order": Order, "position": Position}
"""Rows by whose id a trace can be looked up, besides the correlation id."""


@dataclass(frozen=True)
class Trace:
    """The rows of one trade, each list in order of time."""

    correlation_id: UUID
    posts: list[CtPost]
    traces: list[LlmTrace]
    """Each with `became`, what became of the call."""
    signals: list[Signal]
    orders: list[Order]
    fills: list[Fill]
    ledger: list[LedgerEntry]
    positions: list[Position]
    events: list[Event]

    @property
    def realised_pnl(self) -> Decimal:
        """USDC over all positions of the trace, after fees, before the profit share."""
        return sum((position.realised_pnl for position in self.positions), ZERO)

    @property
    def net(self) -> Decimal:
        """USDC over all positions of the trace, after fees and profit share."""
        return sum((position.net for position in self.positions), ZERO)

    def as_json(self) -> dict[str, Any]:
        """The answer of `GET /api/chain`."""
        answer: dict[str, Any] = TradeTraceOut.from_orm(self).model_dump(mode="json")
        return answer


@dataclass(frozen=True)
class Step:
    """One line of the timeline."""

    at: datetime
    kind: str
    """POST, LLM, SIGNAL, ORDER, FILL, LEDGER, POSITION or EVENT."""
    text: str
    model: str = ""
    pk: int = 0
    detail: str = ""
    """Longer text: a prompt, an answer, evidence."""


def correlation_of(what: str, value: str, person: Person = None) -> UUID:
    """Return the correlation id of a post, order (our id or the provider's), signal or position.

    Raises Rejected where there is no such row, or `person` may not see it.
    """
    if what == "corr":
        try:
            return UUID(value)
        except ValueError:
            raise Rejected(
                f"{value!r} is not a correlation id: give a UUID, for example "
                "3f2b8c1e-5d4a-4c7b-9a0e-1b2c3d4e5f60",
                code="not_a_uuid",
            ) from None
    rows: QuerySet[Any] = visible(KINDS[what]._default_manager.all(), person)
    by_name = {"post": Q(post_id=value), "order": Q(venue_ref=value) | Q(client_order_id=value)}
    wanted = by_name.get(what, Q(pk__in=[]))
    if value.isdecimal() and len(value) < 19:
        wanted |= Q(pk=value)
    found: UUID | None = rows.filter(wanted).values_list("correlation_id", flat=True).first()
    if found is None:
        raise Rejected(
            f"no {what} {value!r}: look for it in the admin, or with `manage.py trades`", code="not_found"
        )
    return found


def follow(correlation_id: UUID, person: Person = None) -> Trace:
    """Collect the rows under a correlation id that `person` may see. Raises Rejected where there are none.

    A post that supported a signal without being its strongest post is in the signal's trace and in its own.
    """
    posts = visible(CtPost.objects.select_related("account"), person)
    signals = visible(Signal.objects.select_related("agent"), person)
    led_to = _ids(Signal, correlation_id=correlation_id) | _ids(Signal, posts__correlation_id=correlation_id)
    own_signals = list(signals.filter(pk__in=led_to).order_by("pk"))
    supporting = _ids(CtPost, correlation_id=correlation_id) | _ids(CtPost, signals__in=own_signals)
    own_posts = list(posts.filter(pk__in=supporting).order_by("posted_at", "pk"))
    if not own_signals and not own_posts:
        raise Rejected(
            f"no post or signal has the correlation id {correlation_id}, or it belongs to another customer",
            code="not_found",
        )
    orders = list(visible(Order.objects.filter(signal__in=own_signals), person).order_by("pk"))
    positions = visible(Position.objects.filter(signal__in=own_signals).select_related("entry_order"), person)
    ids = {correlation_id, *(post.correlation_id for post in own_posts)}
    ids |= {signal.correlation_id for signal in own_signals}
    trace = Trace(
        correlation_id=correlation_id,
        posts=own_posts,
        traces=[],
        signals=own_signals,
        orders=orders,
        fills=list(
            visible(Fill.objects.filter(order__in=orders), person).select_related("order").order_by("pk")
        ),
        ledger=list(visible(LedgerEntry.objects.filter(order__in=orders), person).order_by("pk")),
        positions=attach(with_unrealised(positions).order_by("pk")),
        events=[],
    )
    trace.traces.extend(_model_calls(ids, trace, person))
    became = model_calls.became_of(
        [call.pk for call in trace.traces], person, [post.pk for post in own_posts]
    )
    for call in trace.traces:
        call.became = became.get(call.pk)  # type: ignore[attr-defined]  # for the schema and the timeline
    trace.events.extend(_events(ids, trace, person))
    return trace


def _ids(model: type[CtPost | Signal], **wanted: Any) -> set[int]:
    """Return the ids of the rows that meet one condition: an OR of two would read the whole table."""
    return set(model._default_manager.filter(**wanted).values_list("pk", flat=True))


def _model_calls(ids: set[UUID], trace: Trace, person: Person) -> QuerySet[LlmTrace]:
    """Select the model calls about these ids; a customer does not see calls for other customers' agents."""
    traces = LlmTrace.objects.filter(correlation_ids__overlap=list(ids)).order_by("ts", "pk")
    if sees_all(person, LlmTrace):
        return traces
    own = Q(agent_name="") | Q(agent_id__in=[signal.agent_id for signal in trace.signals])
    return traces.filter(own)


def _events(ids: set[UUID], trace: Trace, person: Person) -> list[Event]:
    """List the events under these ids; a customer sees only those of their own rows."""
    events = Event.objects.filter(correlation_id__in=ids).order_by("pk")
    if sees_all(person, Event):
        return list(events)
    rows = (*trace.posts, *trace.signals, *trace.orders, *trace.positions)
    mine = {f"{row._meta.label_lower}/{row.pk}" for row in rows}
    agents = Deciders.of(signal.agent for signal in trace.signals)
    return [row for row in events if row.subject in mine and agents.concern(row.data, row.at)]


def timeline(trace: Trace) -> list[Step]:
    """List all steps in order of time; within one moment in the order of the pipeline."""
    order = ("POST", "LLM", "SIGNAL", "ORDER", "FILL", "LEDGER", "POSITION", "EVENT")
    return sorted(_steps(trace), key=lambda step: (step.at, order.index(step.kind)))


def _steps(trace: Trace) -> Iterator[Step]:
    for post in trace.posts:
        yield Step(
            post.posted_at,
            "POST",
            f"{post.account}: {post.text}",
            "signals_app.ctpost",
            post.pk,
            post.reasoning,
        )
    for call in trace.traces:
        text = f"{call.purpose} by {read_by(call)}: {call.status}, {call.latency_ms} ms"
        became = call.became.text if call.became else ""  # type: ignore[attr-defined]
        text = "; ".join(filter(None, (f"{text} {call.error_message}".strip(), became)))
        yield Step(call.ts, "LLM", text, "llm.llmtrace", call.pk, _exchange(call))
    for signal in trace.signals:
        yield Step(
            signal.created_at, "SIGNAL", _signal(signal), "signals_app.signal", signal.pk, _evidence(signal)
        )
    for order in trace.orders:
        yield Step(order.created_at, "ORDER", _order(order), "trading.order", order.pk)
    for fill in trace.fills:
        text = f"order {fill.order_id}: {brief(fill.quantity)} at {brief(fill.price)} USD, fee {plain(fill.fee)} USDC"
        yield Step(fill.at, "FILL", text, "trading.fill", fill.pk)
    for line in trace.ledger:
        text = f"{line.account} {line.amount.normalize():+f} {line.asset} ({line.kind}, {line.journal})"
        yield Step(line.at, "LEDGER", text, "trading.ledgerentry", line.pk)
    for position in trace.positions:
        yield Step(position.opened_at, "POSITION", _opened(position), "positions.position", position.pk)
        if position.closed_at:
            yield Step(position.closed_at, "POSITION", _closed(position), "positions.position", position.pk)
    for event in trace.events:
        text = f"{event.name} {event.subject}"
        yield Step(event.at, "EVENT", text, "events.event", event.pk, _compact(event.data))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def read_by(call: LlmTrace) -> str:
    """Name the provider, the model and the version of the prompt of a call."""
    prompt = f" with the prompt {call.prompt_version}" if call.prompt_version else ""
    return f"{call.provider} {call.model}{prompt}"


def _exchange(call: LlmTrace) -> str:
    """Prompt and answer of a model call as indented JSON."""
    prompt, answer = (
        json.dumps(part, indent=1, ensure_ascii=False) for part in (call.request, call.response)
    )
    return f"prompt: {prompt}\nanswer: {answer}"


def _signal(signal: Signal) -> str:
    reason = f" ({signal.reason})" if signal.reason else ""
    return (
        f"{signal.agent}: {signal.side} {signal.token} at {plain(signal.entry_price)} USD, "
        f"confidence {signal.confidence:.2f}, stop {plain(signal.stop_loss_pct)} %, "
        f"target {plain(signal.take_profit_pct)} %, {signal.state}{reason}"
    )


def _evidence(signal: Signal) -> str:
    model = signal.risk_model
    rows = effects(model.get("evidence", {}), model.get("weights", {}), signal.side)
    shown = [f"{SCALE}:", *map(str, rows)] if rows else []
    return "\n".join([*shown, *forecasts_used(model, signal.size_model)])


def _order(order: Order) -> str:
    what = f"{order.purpose} {order.side} {brief(order.quantity or ZERO)} {order.symbol}"
    text = f"{what} for {order.account}: {order.state}"
    if verdict := order.verdict:
        if verdict["measured"] and not verdict["limit"]:
            return f"{text}, {verdict['reason']}: {verdict['measured']}"
        measured, limit = verdict["measured"] or "–", verdict["limit"] or "–"
        return f"{text}, {verdict['reason']} (measured {measured}, limit {limit})"
    return f"{text}, {order.reason or order.exit_reason}".rstrip(", ")


def _opened(position: Position) -> str:
    return (
        f"opened {position.side} {brief(position.quantity)} {position.symbol} at {brief(position.entry_price)} USD, "
        f"stop {plain(position.stop_loss)}, target {plain(position.take_profit)}"
    )


def _closed(position: Position) -> str:
    return (
        f"closed by {position.exit_reason} at {brief(position.exit_price or ZERO)} USD: PnL "
        f"{position.net.normalize():+f} USDC after {plain(position.fees)} USDC of fees and "
        f"{plain(position.profit_share)} USDC of profit share"
    )
