"""The whole way of one trade: post → model → signal → orders → fills → ledger → position → PnL."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from maxxit.access.rows import Person, sees_all, visible
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, brief, plain
from maxxit.events.models import Event
from maxxit.llm.models import LlmTrace
from maxxit.reports.schemas import ChainOut
from positions.models import Position
from positions.performance import with_unrealised
from signals_app.models import CtPost, Signal
from trading.models import Fill, LedgerEntry, Order

KINDS = {"post": CtPost, "signal": Signal, "order": Order, "position": Position}
"""What a chain may be asked for by, besides its correlation id."""


@dataclass(frozen=True)
class Chain:
    """Every row of the way, each list in order of time."""

    correlation_id: UUID
    posts: list[CtPost]
    traces: list[LlmTrace]
    signals: list[Signal]
    orders: list[Order]
    fills: list[Fill]
    ledger: list[LedgerEntry]
    positions: list[Position]
    events: list[Event]

    @property
    def realised_pnl(self) -> Decimal:
        """USDC of all its positions together, after fees."""
        return sum((position.realised_pnl for position in self.positions), ZERO)

    def as_json(self) -> dict[str, Any]:
        """As the API gives it."""
        told: dict[str, Any] = ChainOut.from_orm(self).model_dump(mode="json")
        return told


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
    """The correlation id of a post (our id or the provider's), signal, order or position.

    Raises Rejected where there is none that `person` may see.
    """
    if what == "corr":
        try:
            return UUID(value)
        except ValueError:
            raise Rejected(
                f"{value!r} is no correlation id: it looks like 3f2b…-…", code="not_a_uuid"
            ) from None
    rows: QuerySet[Any] = visible(KINDS[what]._default_manager.all(), person)
    wanted = Q(post_id=value) if what == "post" else Q(pk__in=[])
    if value.isdecimal() and len(value) < 19:
        wanted |= Q(pk=value)
    found: UUID | None = rows.filter(wanted).values_list("correlation_id", flat=True).first()
    if found is None:
        raise Rejected(
            f"no {what} {value!r}: look for it in the admin, or with `manage.py trades`", code="not_found"
        )
    return found


def follow(correlation_id: UUID, person: Person = None) -> Chain:
    """The chain under an id, as far as `person` may see it. Raises Rejected where there is nothing.

    A post that supported a signal without leading it belongs to that signal's chain and to its own.
    """
    posts = visible(CtPost.objects.select_related("account"), person)
    signals = visible(Signal.objects.select_related("agent"), person)
    led_to = _ids(Signal, correlation_id=correlation_id) | _ids(Signal, posts__correlation_id=correlation_id)
    found = list(signals.filter(pk__in=led_to).order_by("pk"))
    heard = _ids(CtPost, correlation_id=correlation_id) | _ids(CtPost, signals__in=found)
    said = list(posts.filter(pk__in=heard).order_by("posted_at", "pk"))
    if not found and not said:
        raise Rejected(f"nothing is known under the correlation id {correlation_id}", code="not_found")
    orders = list(visible(Order.objects.filter(signal__in=found), person).order_by("pk"))
    positions = visible(Position.objects.filter(signal__in=found), person)
    ids = {correlation_id} | {post.correlation_id for post in said} | {one.correlation_id for one in found}
    chain = Chain(
        correlation_id=correlation_id,
        posts=said,
        traces=[],
        signals=found,
        orders=orders,
        fills=list(
            visible(Fill.objects.filter(order__in=orders), person).select_related("order").order_by("pk")
        ),
        ledger=list(visible(LedgerEntry.objects.filter(order__in=orders), person).order_by("pk")),
        positions=list(with_unrealised(positions).order_by("pk")),
        events=[],
    )
    chain.traces.extend(_traces(ids, chain, person))
    chain.events.extend(_events(ids, chain, person))
    return chain


def _ids(model: type[CtPost | Signal], **wanted: Any) -> set[int]:
    """The ids of the rows that one condition names: an OR of two would read the whole table."""
    return set(model._default_manager.filter(**wanted).values_list("pk", flat=True))


def _traces(ids: set[UUID], chain: Chain, person: Person) -> QuerySet[LlmTrace]:
    """What models were asked; a tenant does not see what was asked for other people's agents."""
    traces = LlmTrace.objects.filter(correlation_ids__overlap=list(ids)).order_by("ts", "pk")
    if sees_all(person, LlmTrace):
        return traces
    return traces.filter(agent_name__in=["", *(signal.agent.name for signal in chain.signals)])


def _events(ids: set[UUID], chain: Chain, person: Person) -> list[Event]:
    """What happened; a tenant sees only what happened to rows that are theirs."""
    found = Event.objects.filter(correlation_id__in=ids).order_by("pk")
    if sees_all(person, Event):
        return list(found)
    rows = (*chain.posts, *chain.signals, *chain.orders, *chain.positions)
    mine = {f"{row._meta.label_lower}/{row.pk}" for row in rows}
    agents = {signal.agent.name for signal in chain.signals}
    return [one for one in found if one.subject in mine and one.data.get("agent", "") in {"", *agents}]


def timeline(chain: Chain) -> list[Step]:
    """Everything in order of time; within a moment in the order of the way."""
    order = ("POST", "LLM", "SIGNAL", "ORDER", "FILL", "LEDGER", "POSITION", "EVENT")
    return sorted(_steps(chain), key=lambda step: (step.at, order.index(step.kind)))


def _steps(chain: Chain) -> Iterator[Step]:
    for post in chain.posts:
        yield Step(
            post.posted_at,
            "POST",
            f"{post.account}: {post.text}",
            "signals_app.ctpost",
            post.pk,
            post.reasoning,
        )
    for trace in chain.traces:
        said = f"{trace.purpose} by {trace.provider} {trace.model}: {trace.status}, {trace.latency_ms} ms"
        yield Step(
            trace.ts, "LLM", f"{said} {trace.error_message}".strip(), "llm.llmtrace", trace.pk, _asked(trace)
        )
    for signal in chain.signals:
        yield Step(
            signal.created_at, "SIGNAL", _signal(signal), "signals_app.signal", signal.pk, _evidence(signal)
        )
    for order in chain.orders:
        yield Step(order.created_at, "ORDER", _order(order), "trading.order", order.pk)
    for fill in chain.fills:
        text = f"order {fill.order_id}: {brief(fill.quantity)} at {brief(fill.price)} USD, fee {plain(fill.fee)} USDC"
        yield Step(fill.at, "FILL", text, "trading.fill", fill.pk)
    for line in chain.ledger:
        text = f"{line.account} {line.amount.normalize():+f} {line.asset} ({line.kind}, {line.journal})"
        yield Step(line.at, "LEDGER", text, "trading.ledgerentry", line.pk)
    for position in chain.positions:
        yield Step(position.opened_at, "POSITION", _opened(position), "positions.position", position.pk)
        if position.closed_at:
            yield Step(position.closed_at, "POSITION", _closed(position), "positions.position", position.pk)
    for event in chain.events:
        text = f"{event.name} {event.subject}"
        yield Step(event.at, "EVENT", text, "events.event", event.pk, _compact(event.data))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _asked(trace: LlmTrace) -> str:
    asked, answered = (
        json.dumps(part, indent=1, ensure_ascii=False) for part in (trace.request, trace.response)
    )
    return f"prompt: {asked}\nanswer: {answered}"


def _signal(signal: Signal) -> str:
    reason = f" ({signal.reason})" if signal.reason else ""
    return (
        f"{signal.agent}: {signal.side} {signal.token} at {plain(signal.entry_price)} USD, "
        f"confidence {signal.confidence:.2f}, stop {plain(signal.stop_loss_pct)} %, "
        f"target {plain(signal.take_profit_pct)} %, {signal.state}{reason}"
    )


def _evidence(signal: Signal) -> str:
    evidence: dict[str, Any] = signal.risk_model.get("evidence", {})
    weights: dict[str, Any] = signal.risk_model.get("weights", {})
    return ", ".join(f"{name} {value:+.2f} × {weights.get(name, 0)}" for name, value in evidence.items())


def _order(order: Order) -> str:
    what = f"{order.purpose} {order.side} {brief(order.quantity or ZERO)} {order.symbol}"
    text = f"{what} for {order.account}: {order.state}"
    if order.verdict:
        told = order.verdict
        return f"{text}, {told['reason']} (measured {told['measured'] or '–'}, limit {told['limit'] or '–'})"
    return f"{text}, {order.reason or order.exit_reason}".rstrip(", ")


def _opened(position: Position) -> str:
    return (
        f"opened {position.side} {brief(position.quantity)} {position.symbol} at {brief(position.entry_price)} USD, "
        f"stop {plain(position.stop_loss)}, target {plain(position.take_profit)}"
    )


def _closed(position: Position) -> str:
    return (
        f"closed by {position.exit_reason} at {brief(position.exit_price or ZERO)} USD: PnL "
        f"{position.realised_pnl.normalize():+f} USDC after {plain(position.fees)} USDC fees, "
        f"profit share {plain(position.profit_share)} USDC"
    )
