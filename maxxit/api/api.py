"""The REST API: what is there, the way of each trade, and single steps by hand. See docs/api.md."""

from datetime import UTC
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from django.contrib.auth.decorators import login_required
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest
from ninja import NinjaAPI, Query, Schema
from ninja.errors import HttpError
from pydantic import Field

from agents.models import Agent, Deployment
from agents.states import AgentState
from maxxit.access.auth import AUTH, PerCaller, caller
from maxxit.access.inputs import ReadableJson, When, coded, state_named, unknown
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api import errors, market, safes
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.terms import Purpose
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.market.venues import venue_policy
from maxxit.paging import SKIPPED, bounded_count
from maxxit.pipeline.now import chain_now
from maxxit.reports import trace as chains
from maxxit.reports.reasons import REASONS
from maxxit.reports.schemas import (
    ChainOut,
    FillOut,
    OrderOut,
    PositionOut,
    PostOut,
    Problem,
    SignalOut,
    StatementOut,
)
from maxxit.reports.statement import BEGINNING, check_span, statement
from positions.models import Position
from positions.performance import with_unrealised
from positions.states import PositionState
from signals_app.generate import generate
from signals_app.models import CtPost, Signal
from signals_app.outcome import STAGES
from signals_app.policy import policy as signals_policy
from signals_app.states import PostState, SignalState
from trading import execute, quarantine
from trading.limits_in_force import risk_limits
from trading.models import Fill, Order
from trading.states import OrderState
from trading.wiring import venue

M = TypeVar("M", bound=Model)
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}
STEP = {**ONE, 409: Problem, 503: Problem}
LINES = 1_000
"""Of a statement at a time."""
OUTCOMES = (
    *(code for code in REASONS if code.partition(":")[0] in STAGES and code != "unread"),
    "signal",
    "traded",
)
"""Of posts, beside `unread:` with the code of a failure."""
ORDER_REASONS = tuple(code for code in REASONS if ":" not in code and code not in STAGES)

api = NinjaAPI(
    title="Maxxit",
    version="1",
    description="Posts, signals, orders and positions. Amounts are decimal strings in USD or USDC, states are upper "
    "case, times are UTC. Send your key as `X-API-Key` or as `Authorization: Bearer`.",
    auth=AUTH,
    throttle=[PerCaller()],
    parser=ReadableJson(),
    docs_url="/docs",
    docs_decorator=login_required(login_url="login"),
    urls_namespace="api",
)
errors.explain(api)
api.add_router("/market", market.router)
api.add_router("/safes", safes.router)


class Page(Schema):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=500, description="rows at most")] = 50
    offset: Annotated[
        int, Field(ge=0, le=SKIPPED, description="rows to skip; to go further use `before`")
    ] = 0
    before: Annotated[
        int | None, Field(ge=1, lt=2**63, description="only rows after this one in the list: `next_before`")
    ] = None


class Listed(Schema):
    """A page of a list. `count` is that of the whole list, 1000 where it is longer.

    `next_before` is the `before` of the next page, null on the last one.
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


class Generated(Schema):
    """What a pass of generation did for one agent."""

    agent_id: int
    considered: int
    signals: list[SignalOut]
    declined: dict[str, int]


class Executed(Schema):
    """What became of one signal's orders."""

    signal_id: int
    sent: int
    blocked: dict[str, int]
    orders: list[OrderOut]


class Started(Schema):
    """A run that is on its way."""

    run_id: int
    root_task_id: str


def _seen(request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
    return visible(rows, caller(request).person)


def _states(rows: QuerySet[M], status: str | None, known: type[StrEnum]) -> QuerySet[M]:
    """Those in the state; an unknown one is 422 with the known ones."""
    return rows if status is None else rows.filter(state=state_named(status, known))


def _paged(rows: QuerySet[M], page: Page, newest_by: str = "") -> dict[str, Any]:
    """A page of `rows`, the newest first: by `newest_by` and id, or by id alone."""
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
    """The rows that a list, the newest first, has after the row `before`."""
    if not newest_by:
        return Q(pk__lt=before)
    at = model._default_manager.filter(pk=before).values_list(newest_by, flat=True).first()
    if at is None:
        raise HttpError(422, f"there is no row {before}: `before` is the `next_before` of another page")
    earlier = Q(**{f"{newest_by}__lt": at}) | Q(**{newest_by: at, "pk__lt": before})
    return Q(**{f"{newest_by}__lte": at}) & earlier


@api.get("/db/posts", response={200: Posts, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_ctpost")
def posts(
    request: HttpRequest, page: Query[Page], status: str | None = None, outcome: str | None = None
) -> Any:
    """Posts of the accounts that your agents follow, the newest first; `outcome` as in `candidate:too_old`."""
    rows = _states(_seen(request, CtPost.objects.select_related("account")), status, PostState)
    if outcome and outcome not in OUTCOMES and not outcome.startswith("unread:"):
        raise unknown("outcome", outcome, (*OUTCOMES, "unread:…"))
    return _paged(rows.filter(outcome=outcome) if outcome else rows, page, "posted_at")


@api.get("/db/signals", response={200: Signals, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_signal")
def db_signals(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """Signals of your agents, the newest first."""
    return _paged(_states(_seen(request, Signal.objects.select_related("agent")), status, SignalState), page)


@api.get("/signals", response={200: Signals, **REFUSALS}, tags=["rows"])
@needs("signals_app.view_signal")
def signals(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """The same list under its short name."""
    return db_signals(request, page, status)


@api.get("/db/orders", response={200: Orders, **REFUSALS}, tags=["rows"])
@needs("trading.view_order")
def orders(
    request: HttpRequest, page: Query[Page], status: str | None = None, reason: str | None = None
) -> Any:
    """Orders of your deployments, the newest first; `reason` as in `cooldown`."""
    rows = _states(_seen(request, Order.objects.all()), status, OrderState)
    return _paged(coded(rows, "reason", reason, ORDER_REASONS) if reason else rows, page)


@api.get("/db/trades", response={200: Trades, **REFUSALS}, tags=["rows"])
@needs("trading.view_fill")
def trades(request: HttpRequest, page: Query[Page]) -> Any:
    """Fills of your orders, the newest first."""
    return _paged(_seen(request, Fill.objects.select_related("order")), page)


@api.get("/db/positions", response={200: Positions, **REFUSALS}, tags=["rows"])
@needs("positions.view_position")
def positions(request: HttpRequest, page: Query[Page], status: str | None = None) -> Any:
    """Positions of your deployments, the newest first, with unrealised PnL at the newest quotes."""
    rows = with_unrealised(_seen(request, Position.objects.all()))
    return _paged(_states(rows, status, PositionState), page)


@api.get("/db/deployments/{deployment_id}/statement", response={200: StatementOut, **ONE}, tags=["rows"])
@needs("trading.view_ledgerentry")
def deployment_statement(
    request: HttpRequest, deployment_id: int, since: When | None = None, until: When | None = None
) -> Any:
    """Its ledger from `since` up to `until` (UTC): opening balances, every line, closing balances, totals.

    Of more than 1000 lines the newest are given, and `from` is later than `since`: ask on with `until` = `from`.
    """
    owner = _seen(request, Deployment.objects.filter(pk=deployment_id)).first()
    if owner is None:
        raise Http404(f"there is no deployment {deployment_id}")
    start, end = (one if one is None or one.tzinfo else one.replace(tzinfo=UTC) for one in (since, until))
    check_span(start, end)
    return statement(owner, start or BEGINNING, end or clock.now(), most=LINES).as_json()


@api.get("/chain/{what}/{ident}", response={200: ChainOut, **ONE}, tags=["chain"])
@needs("events.view_event")
def chain(request: HttpRequest, what: str, ident: str) -> Any:
    """The whole way of one trade. `what` is corr, post, signal, order or position; `ident` its id."""
    if what not in ("corr", *chains.KINDS):
        raise HttpError(422, f"no chain by {what!r}; known: corr, {', '.join(chains.KINDS)}")
    person = caller(request).person
    return chains.follow(chains.correlation_of(what, ident, person), person)


@api.post("/admin/run-signal-once", response={200: Generated, **STEP}, tags=["by hand"])
@needs("signals_app.add_signal", operators_only=True)
def run_signal_once(request: HttpRequest, agentId: int) -> Any:
    """Decide for one agent now, on every token it may trade."""
    who = caller(request)
    agent = _seen(request, Agent.objects.all()).filter(pk=agentId).first()
    if agent is None:
        raise Http404(f"no agent {agentId}")
    if agent.state != AgentState.ACTIVE:
        raise Rejected(f"{agent} is {agent.state}: activate it in the admin first", code="not_active")
    newest = Signal.objects.filter(agent=agent).order_by("-pk").values_list("pk", flat=True).first() or 0
    record("api.signal_asked", agent, by=who.name)
    done = generate(signals_policy().generate, [agent])
    made = Signal.objects.filter(agent=agent, pk__gt=newest).select_related("agent").order_by("pk")
    return {
        "agent_id": agent.pk,
        "considered": done.considered,
        "signals": list(made),
        "declined": dict(done.declined),
    }


@api.post("/admin/execute-trade-once", response={200: Executed, **STEP}, tags=["by hand"])
@needs("trading.add_order", operators_only=True)
def execute_trade_once(request: HttpRequest, signalId: int) -> Any:
    """Fan one pending signal out to its agent's deployments and place those orders now, through every check.

    Where real money moves, the executing worker alone places orders: it has the key and the release that may. Those
    are PLANNED in the answer, and the worker is woken.
    """
    who = caller(request)
    signal = _seen(request, Signal.objects.all()).filter(pk=signalId).first()
    if signal is None:
        raise Http404(f"no signal {signalId}")
    if signal.state != SignalState.PENDING:
        told = f"{signal.state.upper()} {signal.reason}".strip()
        raise Rejected(f"signal {signalId} is {told}: only a PENDING one can be executed", code="not_pending")
    if signal.expires_at <= clock.now():
        raise Rejected(f"signal {signalId} has expired: its price is no longer the market's", code="expired")
    record("api.trade_asked", signal, by=who.name)
    execute.fan_out(only=signal.pk)
    placed = execute.PlacementCounts()
    due = Order.objects.filter(
        signal=signal, purpose=Purpose.OPEN, state=OrderState.PLANNED, attempts__lt=quarantine.TRIES
    )
    for order in due.select_related("deployment__agent", "signal").order_by("pk"):
        if not venue_policy(order.venue).paper:
            wake.after_commit("orders.waiting")
            continue
        with quarantine.quarantine_on_error(order):
            placed.count(execute.place_order(order, venue(order.venue), risk_limits()))
    execute.finish_signals()
    done = Order.objects.filter(signal=signal, purpose=Purpose.OPEN).order_by("pk")
    return {"signal_id": signal.pk, "sent": placed.sent, "blocked": placed.blocked, "orders": list(done)}


@api.post("/admin/run-pipeline", response={200: Started, **STEP}, tags=["by hand"])
@needs("pipeline.change_pipelinerun", operators_only=True)
def run_pipeline(request: HttpRequest) -> Any:
    """Start the whole chain: ingest → classify → generate → execute → monitor."""
    who = caller(request)
    run = chain_now("api", by=who.name)
    return {"run_id": run.pk, "root_task_id": run.root_task_id}
