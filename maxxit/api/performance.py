"""The API of results: performance, attribution, PnL of the days and why it is zero, equity curve, CSV exports."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Query, Schema
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, caller
from maxxit.access.inputs import When
from maxxit.access.permissions import needs
from maxxit.api.routing import Router
from maxxit.reports import performance, pnl, pnl_explain
from maxxit.reports.owners import exports, holdings
from maxxit.reports.schemas import MarginOut, Problem
from maxxit.reports.scope import Scope, scope_of, span_of
from maxxit.streaming import CsvResponse
from positions.performance import parts

router = Router(tags=["performance"])
REFUSALS = {401: Problem, 403: Problem, 404: Problem, 409: Problem, 422: Problem, 429: Problem}
CSV: dict[str, Any] = {
    "responses": {200: {"description": "CSV", "content": {"text/csv": {"schema": {"type": "string"}}}}}
}
By = Literal["agent", "deployment", "author", "token", "venue", "side", "exit_reason", "hour", "day", "posts"]
assert {"total", *By.__args__} == set(parts.DIMENSIONS)  # type: ignore[attr-defined]  # noqa: S101


class About(Schema):
    """Which of your deployments, one of the three at most; none: all that you may see."""

    deployment: Annotated[int | None, Field(ge=1, lt=2**63, description="id", examples=[7])] = None
    agent: Annotated[
        str, Field(max_length=60, description="name or id of an agent", examples=["Momentum"])
    ] = ""
    account: Annotated[
        str,
        Field(
            max_length=80,
            description="`@name` of a followed account (its share of the trades), or an account at a venue",
            examples=["@cobie", "paper:1"],
        ),
    ] = ""


class Span(Schema):
    """A period that ends now, or explicit moments, which take precedence."""

    period: Annotated[Literal["1d", "7d", "30d", "all"], Field(examples=["30d"])] = "all"
    since: Annotated[When | None, Field(description="UTC", examples=["2026-01-01T00:00:00Z"])] = None
    until: Annotated[
        When | None, Field(description="UTC; not included", examples=["2026-02-01T00:00:00Z"])
    ] = None


class Wait(Schema):
    """A figure that needs a longer history: `have` of `need` `unit`, as in 12 of 30 days."""

    have: int
    need: int
    unit: str


class RatioOut(Schema):
    """A ratio of daily returns with its 95 % interval; an end that is null is unbounded."""

    value: str | None
    low: str | None
    high: str | None
    days: int


class RateOut(Schema):
    """The money-weighted return: a year's, and that of the span; `reason` says why one is null."""

    annual: str | None
    period: str | None
    reason: str


class DrawdownOut(Schema):
    """Max drawdown of the deposit-neutral index, percent of its peak."""

    percent: str
    peak_at: str | None
    trough_at: str | None
    recovered_at: str | None


class TradesOut(Schema):
    """Statistics of the positions that closed in the span, after all costs; rates are fractions."""

    count: int
    winners: int
    win_rate: str | None
    win_rate_low: str | None
    win_rate_high: str | None
    profit_factor: str | None
    expectancy: str | None
    average_win: str | None
    average_loss: str | None
    payoff: str | None
    average_held_seconds: str | None


class CostsOut(Schema):
    """Costs of the positions that closed in the span. Gas is paid by the platform and in no PnL."""

    venue_fees: str
    platform_fees: str
    profit_share: str
    gas_usd: str
    slippage_usd: str


class BooksOut(Schema):
    """The PnL by positions and by the ledger, of all time; `difference_usd` is 0 where they agree."""

    deployment: int | None
    realised_usd: str
    unrealised_usd: str
    venue_fees_usd: str
    platform_fees_usd: str
    profit_share_usd: str
    gas_usd: str
    funding_usd: str
    equity_usd: str
    deposits_usd: str
    booked_fees_usd: str
    pnl_usd: str
    difference_usd: str
    fee_difference_usd: str


class PerformanceOut(Schema):
    """Figures of a span, each defined in docs/figures.md. Amounts in USD, returns and rates as fractions."""

    about: str
    deployments: list[int] | None
    since: str | None
    until: str | None
    equity_usd: str
    deposits_usd: str
    withdrawals_usd: str
    pnl_usd: str
    open_pnl_usd: str
    closed_pnl_usd: str
    oldest_quote_at: str | None
    twr: str | None
    mwr: RateOut
    apr: str | Wait | None
    volatility: str | Wait | None
    sharpe: RatioOut | Wait
    sortino: RatioOut | Wait
    calmar: RatioOut | Wait
    max_drawdown: DrawdownOut | None
    trades: TradesOut
    median_held_seconds: str | None
    time_in_market: str | None
    turnover: str | None
    costs: CostsOut
    books: BooksOut


class PartOut(Schema):
    """Results of the closed positions of one key, USDC; `closed` may be a fraction where authors share a trade."""

    key: str
    label: str
    closed: str
    winners: str
    trades: int
    won: str
    lost: str
    venue_fees: str
    platform_fees: str
    profit_share: str
    gas_usd: str
    slippage_usd: str
    turnover_usd: str
    held_seconds: str
    net: str
    realised: str
    fees: str
    gross: str
    win_rate: str | None


class RecordOut(Schema):
    """The record of a followed account's own calls, traded or not; impact factor 0.5 is unknown."""

    day: str
    calls: int
    mean_score: str
    impact_factor: str


class AttributionOut(Schema):
    """The parts of the result by one dimension, and their total: they add up to the USDC base unit.

    `own_record` is that of the followed account that was asked for, measured each night.
    """

    about: str
    by: str
    since: str | None
    until: str | None
    parts: list[PartOut]
    total: PartOut
    own_record: RecordOut | None


class TodayOut(Schema):
    """Results since midnight UTC; `realised_usd` is after fees and profit share."""

    about: str
    since: str
    at: str
    realised_usd: str
    unrealised_usd: str
    total_usd: str
    day_pnl_usd: str | None
    equity_usd: str
    deposits_usd: str
    closed: int
    winners: int
    win_rate: str | None
    average_win_usd: str
    average_loss_usd: str
    drawdown_usd: str
    best: str
    worst: str
    fees_usd: str
    profit_share_usd: str
    buys: int
    sells: int
    volume_usd: str


class DayOut(Schema):
    """The saved summary of one UTC day."""

    report_date: str
    deployment: int | None
    realized_pnl_usd: str
    unrealized_pnl_usd: str
    total_pnl_usd: str
    day_pnl_usd: str
    equity_usd: str
    deposits_usd: str
    win_rate: str | None
    num_trades: int
    best_symbol: str
    worst_symbol: str


class SummaryOut(Schema):
    """Today so far, and the saved summaries of the last days, the newest first."""

    today: TodayOut
    days: list[DayOut]


class FindingOut(Schema):
    """One cause: `urgency` is act, wait or note; `audience` says who can do what `fix` names."""

    code: str
    urgency: str
    text: str
    fix: str
    audience: str
    count: int


class ExplanationOut(Schema):
    """Today's PnL, each cause why it may be zero, and whether positions and ledger agree."""

    about: str
    since: str
    realised_usdc: str
    unrealised_usd: str
    is_zero: bool
    findings: list[FindingOut]
    books: list[BooksOut]


class PointOut(Schema):
    """A point of the equity curve; the first point's flow is the equity that the curve begins with."""

    at: str
    equity_usd: str
    flow_usd: str
    index: str
    drawdown_pct: str


class EquityOut(Schema):
    """The equity curve, thinned to what a plot needs; flows are kept."""

    about: str
    items: list[PointOut]


def _scope(request: HttpRequest, about: About) -> Scope:
    """Return the scope that the caller asks for. Raises Rejected (404) where it is not theirs."""
    person = caller(request).person
    return scope_of(person, deployment=about.deployment, agent=about.agent, account=about.account)


def _with_equity(request: HttpRequest, about: About) -> Scope:
    """Return a scope with an equity of its own. Raises HttpError 422 for a followed account."""
    scope = _scope(request, about)
    if scope.author is not None:
        raise HttpError(
            422,
            f"{about.account} is a followed account, which has no equity: see /api/performance/attribution",
        )
    return scope


class HoldingOut(Schema):
    """One asset of an account at its venue; amounts are decimal strings in whole units or USD."""

    venue: str
    account: str
    asset: str
    quantity: str
    booked: str
    unexplained: str
    origin: str
    means: str
    fix: str
    since: str
    seen_at: str
    price_usd: str | None
    value_usd: str | None
    positions: list[int]
    unrealised_usd: str | None
    margin: list[MarginOut]


class HoldingsOut(Schema):
    """What the venues held when they were last read."""

    items: list[HoldingOut]


def _span(span: Span) -> tuple[datetime | None, datetime | None]:
    return span_of(span.period, span.since, span.until)


@router.get("/performance", response={200: PerformanceOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_performance(request: HttpRequest, about: Query[About], span: Query[Span]) -> Any:
    """Return equity, PnL, returns, risk, results of trades and costs over a span."""
    scope = _with_equity(request, about)
    return {"about": scope.label} | performance.read(scope, *_span(span)).as_json()


@router.get("/performance/attribution", response={200: AttributionOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_attribution(request: HttpRequest, about: Query[About], span: Query[Span], by: By = "agent") -> Any:
    """Return the result of the closed positions by agent, followed account, token or another dimension.

    With `account=@name` the part of that followed account alone.
    """
    return performance.attributed(_scope(request, about), by, *_span(span))


@router.get("/pnl/summary", response={200: SummaryOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_summary(
    request: HttpRequest, about: Query[About], days: Annotated[int, Query(ge=1, le=366)] = pnl.WEEK
) -> Any:
    """Return today's results so far, and the saved summaries of the last days, the newest first."""
    scope = _with_equity(request, about)
    return {"today": pnl.today(scope).as_json(), "days": pnl.week(scope, days)}


@router.get("/pnl/explain", response={200: ExplanationOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_explanation(request: HttpRequest, about: Query[About]) -> Any:
    """Return each cause why the PnL is zero, or not what was expected, with what to do; and the books."""
    return pnl_explain.explain(_with_equity(request, about)).as_json()


@router.get("/holdings", response={200: HoldingsOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_holdings(request: HttpRequest, about: Query[About], unexplained: bool = False) -> Any:
    """Return what the venues held when they were last read, beside the ledger; `unexplained`: only what differs.

    What was opened elsewhere is AUTO_DISCOVERED: the owner's own, and not traded.
    """
    rows = holdings.holdings(_with_equity(request, about), unexplained=unexplained)
    return {"items": [row.as_json(for_staff=caller(request).is_staff) for row in rows]}


@router.get("/equity", response={200: EquityOut, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def get_equity(
    request: HttpRequest,
    about: Query[About],
    span: Query[Span],
    points: Annotated[int, Query(ge=10, le=5_000, description="at most this many")] = performance.POINTS,
) -> Any:
    """Return the equity curve with open positions, its flows, the deposit-neutral index and the drawdown."""
    scope = _with_equity(request, about)
    return {"about": scope.label, "items": performance.equity_curve(scope, *_span(span), points)}


@router.get("/trades.csv", response={200: None, **REFUSALS}, auth=READERS, openapi_extra=CSV)
@needs("positions.view_position")
def get_trades(request: HttpRequest, about: Query[About], span: Query[Span]) -> CsvResponse:
    """Stream each trade from entry to exit as CSV: prices, costs, PnL, exit reason, followed accounts."""
    return CsvResponse(exports.trades_csv(_scope(request, about), *_span(span)), "trades.csv")


@router.get("/lots.csv", response={200: None, **REFUSALS}, auth=READERS, openapi_extra=CSV)
@needs("positions.view_position")
def get_lots(
    request: HttpRequest,
    about: Query[About],
    span: Query[Span],
    year: Annotated[int | None, Query(ge=2000, le=2100, description="lots closed in this UTC year")] = None,
) -> CsvResponse:
    """Stream the FIFO lots closed in a span as CSV, for accountants."""
    since, until = exports.year(year) if year else _span(span)
    return CsvResponse(exports.lots_csv(_with_equity(request, about), since, until), "lots.csv")
