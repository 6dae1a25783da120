"""The API of the activity feed, of why an agent did not trade a token, and of one trade."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Path, Query, Schema
from pydantic import Field

from maxxit.access.auth import READERS, caller
from maxxit.access.models import TRADE
from maxxit.access.permissions import needs
from maxxit.api.routing import Router
from maxxit.core.errors import Rejected
from maxxit.reports.activity import feed
from maxxit.reports.activity.rows import activity
from maxxit.reports.schemas import MarginOut, Problem
from maxxit.reports.trades import trade, why
from positions.manual_close import close_by_hand

router = Router(tags=["activity"])
Id = Annotated[int, Path(ge=1, lt=2**63)]
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}


class FeedPostOut(Schema):
    """A post of a row of the feed, and how it was read."""

    id: int
    author: str
    text: str
    posted_at: str
    deleted: bool
    edited: bool
    reading: str
    reasoning: str
    correlation_id: UUID


class ResultOut(Schema):
    """What one agent or account did: a trade, or the reason why there was none, with measured value and limit.

    `pnl` is USDC: realised after fees and profit share, or with `open` unrealised before fees.
    """

    outcome: str
    agent: str
    token: str
    text: str
    code: str
    measured: str
    limit: str
    change: str
    audience: str
    account: str
    order_id: int | None
    position_id: int | None
    pnl: str | None
    open: bool
    at: str | None


class RowOut(Schema):
    """A row of the feed: a signal with its posts, or a post that no agent of yours traded."""

    at: str
    kind: str
    id: int
    outcome: str
    agent: str
    token: str
    side: str
    decision: str
    signal_id: int | None
    correlation_id: UUID
    posts: list[FeedPostOut]
    results: list[ResultOut]
    more_results: int


class ActivityOut(Schema):
    """A page of the feed, newest first. `next_before` is the `before` of the next page; null on the last page."""

    items: list[RowOut]
    next_before: str | None


class ReasonOut(Schema):
    """One reason: what was stopped, what it means, measured value and limit, what changes it and who can."""

    what: str
    code: str
    meaning: str
    measured: str
    limit: str
    change: str
    audience: str
    waiting: bool
    read_by: str


class AnswerOut(Schema):
    """Why an agent did not trade a token around a moment. `outcome` is `none` where nothing happened."""

    agent: str
    token: str
    at: str
    since: str
    until: str
    outcome: str
    answer: str
    reasons: list[ReasonOut]
    items: list[RowOut]
    url: str


class ActivityQuery(Schema):
    """Which rows of the feed to return."""

    agent: Annotated[str, Field(max_length=80, description="name or id of an agent")] = ""
    token: Annotated[str, Field(max_length=80, description="symbol of a token")] = ""
    account: Annotated[str, Field(max_length=80, description="name of a followed account")] = ""
    outcome: Annotated[str, Field(max_length=80, description=", ".join(feed.OUTCOMES))] = ""
    since: Annotated[str, Field(max_length=80, description="UTC date or time")] = ""
    until: Annotated[str, Field(max_length=80, description="UTC time, not included, or date, included")] = ""
    before: Annotated[str, Field(max_length=80, description="the `next_before` of the previous page")] = ""
    limit: Annotated[int, Field(ge=1, le=feed.MOST, description="maximum number of rows")] = feed.PAGE


@router.get("/activity", response={200: ActivityOut, **REFUSALS}, auth=READERS)
@needs("signals_app.view_signal")
def list_activity(request: HttpRequest, query: Query[ActivityQuery]) -> Any:
    """List what happened to the posts that your agents follow and to their signals, newest first."""
    person = caller(request).person
    key = feed.Key.parse(query.before) if query.before else None
    filters = feed.read_filters({name: getattr(query, name) for name in feed.NAMES}, person)
    return activity(person, filters, key, query.limit).as_json()


@router.get("/why", response={200: AnswerOut, **REFUSALS}, auth=READERS)
@needs("signals_app.view_signal")
def why_not_traded(
    request: HttpRequest,
    agent: Annotated[str, Query(max_length=80)],
    token: Annotated[str, Query(max_length=80)],
    at: Annotated[str, Query(max_length=80)],
) -> Any:
    """Explain why your agent did not trade a token around `at` (UTC), or name the trade that it made."""
    return why.not_traded(agent, token, feed.time_of("at", at), caller(request).person).as_json()


class SlippageAndFees(Schema):
    """What a trade has cost: fees and profit share in USDC, slippage in USD, gas by coin (paid by the platform)."""

    venue_fee: str
    platform_fee: str
    profit_share: str
    slippage_usd: str
    gas: dict[str, str]


class NowOut(Schema):
    """An open position at the newest quote; `pnl` is USDC after the fees so far."""

    price: str
    at: str
    usable: bool
    quantity: str
    value_usd: str
    pnl: str


class DetailOut(Schema):
    """A prompt, an answer or events of a step."""

    title: str
    text: str


class StepOut(Schema):
    """One of the six steps of a trade: post, reading, signal, order, fill, result."""

    name: str
    title: str
    at: str | None
    money: str
    lines: list[str]
    details: list[DetailOut]


class MarkOut(Schema):
    """A moment on the chart, in seconds since 1970."""

    what: str
    at: int
    price: str | None
    text: str


class ChartOut(Schema):
    """What a chart of the trade shows besides candles: levels in USD, and moments."""

    symbol: str
    interval: str
    side: str
    open: bool
    before: str
    levels: dict[str, str]
    marks: list[MarkOut]


class TradeOut(Schema):
    """One trade from the post to the result. `result` is USDC after all costs; `close` says what closing does now.

    Funding of a position with margin is a ledger line of its own: `result_with_funding` is the sum of both.
    """

    position_id: int
    agent: str
    account: str
    symbol: str
    side: str
    status: str
    exit_reason: str
    quantity: str
    entry_price: str
    exit_price: str | None
    opened_at: str
    closed_at: str | None
    result: str | None
    costs: SlippageAndFees
    now: NowOut | None
    margin: MarginOut | None
    result_with_funding: str | None
    close: str
    steps: list[StepOut]
    chart: ChartOut
    correlation_id: UUID


class CloseOut(Schema):
    """What a request to close did; `started` is false where the position was closing or closed already."""

    position_id: int
    state: str
    started: bool
    text: str


@router.get("/trades/{position_id}", response={200: TradeOut, **ONE}, auth=READERS)
@needs("positions.view_position")
def one_trade(request: HttpRequest, position_id: Id) -> Any:
    """Return one trade: its six steps with the money of each, costs, levels, and PnL at the newest quote."""
    return trade.trade(position_id, caller(request).person).as_json()


@router.post("/trades/{position_id}/close", response={200: CloseOut, **ONE, 409: Problem})
@needs("positions.change_position", scope=TRADE)
def close_trade(request: HttpRequest, position_id: Id) -> Any:
    """Close your position at the market price. Asked again, nothing more is closed. Needs the scope `trade`."""
    who = caller(request)
    answer = close_by_hand(trade.position_of(position_id, who.person), by=who.name)
    if answer.state == "open":
        raise Rejected(answer.text, code="not_closed")
    return answer.as_json()
