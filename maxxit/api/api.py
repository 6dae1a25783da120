"""The REST API under /api: lists of rows, traces, statements, and pipeline steps started by hand. See docs/api.md."""

from datetime import UTC
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest
from ninja import Query, Schema
from ninja.errors import HttpError
from pydantic import Field

from agents.models import Agent, Deployment
from agents.states import AgentState
from maxxit.access.auth import AUTH, PerCaller, caller, key_or_login
from maxxit.access.idempotency import IdempotentAPI
from maxxit.access.inputs import ReadableJson, When, coded, state_named, unknown
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api import (
    activity,
    authors,
    customer,
    errors,
    market,
    notifications,
    operators,
    performance,
    previews,
    safes,
    sources,
    streams,
)
from maxxit.api.routing import Router
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.terms import Purpose
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.market.venues import venue_policy
from maxxit.paging import SKIPPED, bounded_count
from maxxit.pipeline.start import start_pipeline
from maxxit.reports import progress
from maxxit.reports.schemas import (
    FillOut,
    InvoiceOut,
    OrderOut,
    PositionOut,
    PostOut,
    Problem,
    ProgressOut,
    SignalOut,
    StatementOut,
    TradeTraceOut,
)
from maxxit.reports.statement import BEGINNING, check_span, statement
from maxxit.reports.trades import trace
from maxxit.reports.trades.reasons import ORDERS, POSTS
from positions.margins import attach
from positions.models import Position
from positions.performance.equity import with_unrealised
from positions.states import PositionState
from signals_app.generate import generate
from signals_app.models import CtPost, Signal
from signals_app.policy import policy as signals_policy
from signals_app.states import PostState, SignalState
from trading import execute
from trading.billing.invoice import invoice, parse_month
from trading.entries import crowd, planning
from trading.models import Fill, Order
from trading.risk.limits_in_force import risk_limits
from trading.states import OrderState

M = TypeVar("M", bound=Model)
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}
STEP = {**ONE, 409: Problem, 503: Problem}
STATEMENT_LINES = 1_000
"""Entries of a statement in one answer."""
OUTCOMES = (
    *(code for code in POSTS if code != "unread"),
    "signal",
    "traded",
)
"""Outcomes of posts; `unread:` with an error code is accepted as well."""

api = IdempotentAPI(
    title="Maxxit",
    version="1",
    description="Posts, signals, orders, positions, prices and Safes. Amounts are decimal strings in USD or USDC, "
    "states are upper case, times are UTC. Send your API key as `X-API-Key` or as `Authorization: Bearer`.",
    auth=AUTH,
    throttle=[PerCaller()],
    default_router=Router(),
    parser=ReadableJson(),
    docs_url="/docs",
    docs_decorator=key_or_login,
    urls_namespace="api",
)
errors.add_handlers(api)
api.add_router("", customer.router)
api.add_router("/market", market.router)
api.add_router("", activity.router)
api.add_router("", authors.router)
api.add_router("/safes", safes.router)
api.add_router("/sources", sources.router)
api.add_router("", performance.router)
api.add_router("", previews.router)
api.add_router("/notifications", notifications.router)
api.add_router("/streams", streams.router)
api.add_router("/admin", operators.router)


class Page(Schema):
    """Which page of a list to return."""

    limit: Annotated[int, Field(ge=1, le=500, description="maximum number of rows")] = 50
    offset: Annotated[
        int, Field(ge=0, le=SKIPPED, description="rows to skip; for later pages use `before`")
    ] = 0
    before: Annotated[
        int | None, Field(ge=1, lt=2**63, description="the `next_before` of the previous page")
    ] = None


class Listed(Schema):
    """One page of a list, newest first. `count` is the length of the whole list, at most 1000.

    `next_before` is the `before` of the next page; null on the last page.
    """

    count: int
    next_before: int | None


class Posts(Listed):
    """A page of posts."""

    items: list[PostOut]


class Signals(Listed):
    """A page of signals."""

    items: list[SignalOut]


class Orders(Listed):
    """A page of orders."""

    items: list[OrderOut]


class Trades(Listed):
    """A page of fills."""

    items: list[FillOut]


class Positions(Listed):
    """A page of positions."""

    items: list[PositionOut]


class SignalsUnderWay(Schema):
    """The signals under way, then those of the last hour that have entries, each newest first; 20 at most."""

    items: list[ProgressOut]


class Generated(Schema):
    """The result of a generation pass for one agent: new signals, and declined tokens by reason."""

    agent_id: int
    considered: int
    signals: list[SignalOut]
    declined: dict[str, int]


class Executed(Schema):
    """The orders of one signal after placing: how many were sent, and how many were blocked by reason."""

    signal_id: int
    sent: int
    blocked: dict[str, int]
    orders: list[OrderOut]


class Started(Schema):
    """A pipeline run that was started."""

    run_id: int
    root_task_id: str


def _visible(request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
    return visible(rows, caller(request).person)


def _states(rows: QuerySet[M], status: str | None, known: type[StrEnum]) -> QuerySet[M]:
    """Filter by state; an unknown state is 422 and names the known ones."""
    return rows if status is None else rows.filter(state=state_named(status, known))


def _paged(rows: QuerySet[M], page: Page, newest_by: str = "") -> dict[str, Any]:
    """Return a page of `rows`, newest first: by `newest_by` and id, or by id alone."""
    part = rows.order_by(*([f"-{newest_by}"] if newest_by else []), "-pk")
    if page.before is not None:
        part = part.filter(_after(rows.model, page.before, newest_by))
    items = list(part[page.offset : page.offset + page.limit])
    return {
        "items": items,
        "count": bounded_count(rows),
        "next_before": items[-1].pk if len(items) == page.limit else None,
    }


def _after(model: type[M], before: int, newest_by: str) -> Q:
    """Build the condition for the rows that follow the row `before` in a list, newest first."""
    if not newest_by:
        return Q(pk__lt=before)
    at = model._default_manager.filter(pk=before).values_list(newest_by, flat=True).first()
    if at is None:
        raise HttpError(
            422, f"there is no row {before}: send the `next_before` of the previous page as `before`"
        )
    earlier = Q(**{f"{newest_by}__lt": at}) | Q(**{newest_by: at, "pk__lt": before})
    return Q(**{f"{newest_by}__lte": at}) & earlier


@api.get("/db/posts", response={200: Posts, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_ctpost")
def posts(
    request: HttpRequest, page: Query[Page], status: str | None = None, outcome: str | None = None
) -> Any:
    """List the posts of the accounts that your agents follow, newest first.

    Filter by `status` or by `outcome`, for example `candidate:too_old`.
    """
    rows = _states(_visible(request, CtPost.objects.select_related("account")), status, PostState)
    if outcome and outcome not in OUTCOMES and not outcome.startswith("unread:"):
        raise unknown("outcome", outcome, (*OUTCOMES, "unread:…"))
    return _paged(rows.filter(outcome=outcome) if outcome else rows, page, "posted_at")


@api.get("/db/signals", response={200: Signals, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_signal")
def db_signals(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """List the signals of your agents, newest first."""
    return _paged(
        _states(_visible(request, Signal.objects.select_related("agent")), status, SignalState), page
    )


@api.get("/signals", response={200: Signals, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_signal")
def signals(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """List the signals of your agents, newest first (short path of `/db/signals`)."""
    return db_signals(request, page, status)


@api.get("/signals/progress", response={200: SignalsUnderWay, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_signal")
def signals_progress(request: HttpRequest) -> Any:
    """Return where the entries of the signals under way are: planned, waiting, sent, filled, blocked; pace, estimate.

    Orders and positions are counted as far as they are yours.
    """
    return {"items": [row.as_json() for row in progress.recent(caller(request).person)]}


@api.get("/signals/{signal_id}/progress", response={200: ProgressOut, **ONE}, tags=["rows"])
@needs("signals_app.view_signal")
def signal_progress(request: HttpRequest, signal_id: int) -> Any:
    """Return where the entries of one signal are, with the places of your first waiting orders in the queue."""
    return progress.of_signal(signal_id, caller(request).person).as_json()


@api.get("/db/orders", response={200: Orders, **REFUSALS}, tags=["rows"])
@needs("trading.view_order")
def orders(
    request: HttpRequest, page: Query[Page], status: str | None = None, reason: str | None = None
) -> Any:
    """List the orders of your deployments, newest first. Filter by `status` or by `reason`, for example `cooldown`."""
    rows = _states(_visible(request, Order.objects.all()), status, OrderState)
    return _paged(coded(rows, "reason", reason, tuple(ORDERS)) if reason else rows, page)


@api.get("/db/trades", response={200: Trades, **REFUSALS}, tags=["rows"])
@needs("trading.view_fill")
def trades(request: HttpRequest, page: Query[Page]) -> Any:
    """List the fills of your orders, newest first."""
    return _paged(_visible(request, Fill.objects.select_related("order")), page)


@api.get("/db/positions", response={200: Positions, **REFUSALS}, tags=["rows"])
@needs("positions.view_position")
def positions(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """List the positions of your deployments, newest first, with unrealised PnL at the newest quotes.

    At venues with margin each has its leverage, liquidation price, margin ratio and funding.
    """
    rows = with_unrealised(_visible(request, Position.objects.select_related("entry_order")))
    found = _paged(_states(rows, status, PositionState), page)
    return found | {"items": attach(found["items"])}


@api.get("/db/deployments/{deployment_id}/statement", response={200: StatementOut, **ONE}, tags=["rows"])
@needs("trading.view_ledgerentry")
def deployment_statement(
    request: HttpRequest, deployment_id: int, since: When | None = None, until: When | None = None
) -> Any:
    """Return a deployment's ledger from `since` to `until` (UTC): opening balances, entries, closing balances, totals.

    An answer holds the newest 1000 entries at most; `from` is then later than `since`. For the older ones repeat the
    request with `until` = `from`.
    """
    deployment = _visible(request, Deployment.objects.filter(pk=deployment_id)).first()
    if deployment is None:
        raise Http404(f"there is no deployment {deployment_id}")
    start, end = (at if at is None or at.tzinfo else at.replace(tzinfo=UTC) for at in (since, until))
    check_span(start, end)
    return statement(deployment, start or BEGINNING, end or clock.now(), most=STATEMENT_LINES).as_json()


@api.get(
    "/db/deployments/{deployment_id}/invoices/{month}",
    response={200: InvoiceOut, **ONE},
    by_alias=True,
    tags=["rows"],
)
@needs("trading.view_ledgerentry")
def deployment_invoice(request: HttpRequest, deployment_id: int, month: str) -> Any:
    """Return a deployment's invoice for one month (UTC, as 2026-11): charges by kind, payments, and what is owed."""
    related = Deployment.objects.select_related("agent", "owner")
    deployment = _visible(request, related.filter(pk=deployment_id)).first()
    if deployment is None:
        raise Http404(f"there is no deployment {deployment_id}")
    return invoice(deployment, parse_month(month)).as_json()


@api.get("/chain/{what}/{ident}", response={200: TradeTraceOut, **ONE}, tags=["trace"])
@needs("events.view_event")
def trade_trace(request: HttpRequest, what: str, ident: str) -> Any:
    """Return the trace of one trade, from the post to the PnL.

    `what` is `corr`, `post`, `signal`, `order` or `position`, and `ident` its id: posts, model calls, signals, orders,
    fills, ledger entries, positions and events, each list in order of time.
    """
    if what not in ("corr", *trace.KINDS):
        raise HttpError(422, f"a trace is not looked up by {what!r}; known: corr, {', '.join(trace.KINDS)}")
    person = caller(request).person
    return trace.follow(trace.correlation_of(what, ident, person), person)


@api.post("/admin/run-signal-once", response={200: Generated, **STEP}, tags=["by hand"])
@needs("signals_app.add_signal", operators_only=True)
def run_signal_once(request: HttpRequest, agentId: int) -> Any:
    """Run the generation stage for one active agent now, over every token it may trade."""
    who = caller(request)
    agent = _visible(request, Agent.objects.all()).filter(pk=agentId).first()
    if agent is None:
        raise Http404(f"no agent {agentId}")
    if agent.state != AgentState.ACTIVE:
        raise Rejected(f"{agent} is {agent.state}: activate it in the admin first", code="not_active")
    newest = Signal.objects.filter(agent=agent).order_by("-pk").values_list("pk", flat=True).first() or 0
    record("api.signal_asked", agent, by=who.name)
    done = generate(signals_policy().generate, [agent])
    new_signals = Signal.objects.filter(agent=agent, pk__gt=newest).select_related("agent").order_by("pk")
    return {
        "agent_id": agent.pk,
        "considered": done.considered,
        "signals": list(new_signals),
        "declined": dict(done.declined),
    }


@api.post("/admin/execute-trade-once", response={200: Executed, **STEP}, tags=["by hand"])
@needs("trading.add_order", operators_only=True)
def execute_trade_once(request: HttpRequest, signalId: int) -> Any:
    """Fan one pending signal out to its agent's deployments and place the orders now, through every check.

    Orders at venues with real money are placed by the execute worker alone, which holds the signing key: they are
    `PLANNED` in the answer, and the worker is woken.
    """
    who = caller(request)
    signal = _visible(request, Signal.objects.all()).filter(pk=signalId).first()
    if signal is None:
        raise Http404(f"no signal {signalId}")
    if signal.state != SignalState.PENDING:
        state = f"{signal.state.upper()} {signal.reason}".strip()
        raise Rejected(
            f"signal {signalId} is {state}: only a PENDING one can be executed", code="not_pending"
        )
    if signal.expires_at <= clock.now():
        raise Rejected(
            f"signal {signalId} expired at {signal.expires_at:%Y-%m-%d %H:%M} UTC: run generation again",
            code="expired",
        )
    record("api.trade_asked", signal, by=who.name)
    planning.fan_out(only=signal.pk)
    placed = execute.PlacementCounts()
    if not venue_policy(signal.venue).paper:
        wake.after_commit("orders.waiting")
    else:
        limits = risk_limits()
        entries = Order.objects.filter(signal=signal, purpose=Purpose.OPEN)
        placed = execute.place_due_orders(entries, limits, shares=crowd.read_shares(limits))
    planning.finish_signals()
    done = Order.objects.filter(signal=signal, purpose=Purpose.OPEN).order_by("pk")
    return {"signal_id": signal.pk, "sent": placed.sent, "blocked": placed.blocked, "orders": list(done)}


@api.post("/admin/run-pipeline", response={200: Started, **STEP}, tags=["by hand"])
@needs("pipeline.change_pipelinerun", operators_only=True)
def run_pipeline(request: HttpRequest) -> Any:
    """Start a pipeline run: ingest → classify → generate → execute → monitor."""
    who = caller(request)
    run = start_pipeline("api", by=who.name)
    return {"run_id": run.pk, "root_task_id": run.root_task_id}
