"""The API's side of prices: quotes by source, health, refusals, bars, trades on a chart, and users' price rules."""

from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import Http404, HttpRequest
from ninja import Query, Router, Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, Caller, caller
from maxxit.access.inputs import When, coded, state_named, unknown
from maxxit.access.models import ADMIN, RULES
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.market import candles, rules
from maxxit.market.feeds import FEEDS
from maxxit.market.instruments import all_instruments
from maxxit.market.models import PriceRule, RefusedQuote, RuleDelivery
from maxxit.market.states import DeliveryState
from maxxit.notify import endpoints
from maxxit.paging import SKIPPED, bounded_count
from maxxit.reports import market
from maxxit.reports.schemas import Moment, Number, Problem, State
from maxxit.reports.statement import check_span

router = Router(tags=["market"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}
Limit = Annotated[int, Field(ge=1, le=500, description="rows at most")]
Offset = Annotated[int, Field(ge=0, le=SKIPPED, description="rows to skip")]


class SaidOut(Schema):
    """What one source said last."""

    source: str
    price: Number
    at: Moment
    age_seconds: float
    confidence: Number | None
    off_bps: Number


class PricedOut(Schema):
    """The quote of a symbol and what it was chosen from; USD, basis points."""

    symbol: str
    price: Number
    at: Moment
    age_seconds: float
    source: str
    usable: bool
    trusted: bool
    doubt: str
    spread_bps: Number | None
    sources: list[SaidOut]


class Prices(Schema):
    """A page of quotes."""

    items: list[PricedOut]
    count: int


class FeedOut(Schema):
    """One feed of the configured order."""

    name: str
    well: bool
    symbols: int
    newest: Moment | None
    age_seconds: float | None
    error: str


class HealthOut(Schema):
    """The stream and the feeds."""

    leader: str
    ticks: int
    dropped: int
    feeds: list[FeedOut]


class RefusedOut(Schema):
    """Prices of one source that were refused for one reason within an hour."""

    symbol: str
    source: str
    reason: str
    value: str
    limit: str
    price: str
    times: int
    first_at: Moment
    last_at: Moment


class Refusals(Schema):
    """A page of refusals, the newest first."""

    items: list[RefusedOut]
    count: int


class BarOut(Schema):
    """One bar; `time` is its start in seconds since 1970, UTC."""

    time: int
    open: Number
    high: Number
    low: Number
    close: Number


class Bars(Schema):
    """Bars in order of time. For older ones ask again with `before` = `next_before`; null: there are none."""

    symbol: str
    interval: str
    time_zone: str = "UTC"
    items: list[BarOut]
    next_before: Moment | None


class MarkerOut(Schema):
    """An entry or an exit; `bar` is the start of the bar it falls into, in seconds since 1970."""

    position_id: int
    agent_id: int
    agent: str
    what: str
    side: State
    at: Moment
    bar: int
    price: Number
    reason: str
    realised_pnl: Number | None
    correlation_id: UUID


class Markers(Schema):
    """Entries and exits in order of time; `count` is that of the whole span, of each kind 1000 at most."""

    time_zone: str = "UTC"
    items: list[MarkerOut]
    count: int


class RuleIn(Schema):
    """A wish to be told: `threshold` is USD (gt, lt) or percent (change_pct within `window_minutes`)."""

    symbols: Annotated[
        list[Annotated[str, Field(max_length=20)]],
        Field(min_length=1, max_length=100, description='or ["*"] for every one'),
    ]
    condition: Literal["gt", "lt", "change_pct", "any"]
    threshold: Annotated[Decimal, Field(max_digits=38, decimal_places=18)] | None = None
    window_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] | None = None
    channel: Annotated[str, Field(max_length=20)] = "inbox"


class RuleOut(Schema):
    """A price rule."""

    rule_id: str
    user: str
    symbols: list[str]
    condition: str
    threshold: Number | None
    window_seconds: int | None
    channel: str
    active: bool
    created_at: Moment

    @staticmethod
    def resolve_user(row: Any) -> str:
        return str(row.user.get_username())


class Rules(Schema):
    """A page of rules, the newest first."""

    items: list[RuleOut]
    count: int


class HitOut(Schema):
    """For this symbol the rule would match now; `value` is USD or percent."""

    symbol: str
    price: Number
    value: Number


class Tested(Schema):
    """What a rule would do at the present quotes; nothing was written."""

    rule_id: str
    matches: bool
    hits: list[HitOut]


class DeliveryOut(Schema):
    """A message about a match: PENDING, SENT or DEAD, with its last error."""

    id: int
    rule_id: str
    symbol: str
    price: Number
    value: Number
    channel: str
    status: State
    attempts: int
    last_error: str
    at: Moment
    sent_at: Moment | None

    @staticmethod
    def resolve_rule_id(row: Any) -> str:
        """The rule's public id."""
        return str(row.rule.rule_id)

    @staticmethod
    def resolve_price(row: Any) -> Decimal:
        """USD."""
        found: Decimal = row.match.price
        return found

    @staticmethod
    def resolve_value(row: Any) -> Decimal:
        """What was compared."""
        found: Decimal = row.match.value
        return found

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)


class Deliveries(Schema):
    """A page of deliveries, the newest first."""

    items: list[DeliveryOut]
    count: int


class WebhookIn(Schema):
    """Where your rules of the channel webhook are sent."""

    url: Annotated[str, Field(max_length=500, description="https, public, port 443")]


class WebhookOut(Schema):
    """Its secret signs what is sent: see docs/market.md."""

    url: str
    secret: str


class Forgotten(Schema):
    """Whether there was one."""

    removed: bool


def _symbol(name: str) -> str:
    if name not in all_instruments():
        raise unknown("symbol", name, sorted(all_instruments()))
    return name


def _width(interval: str) -> timedelta:
    try:
        return market.INTERVALS[interval]
    except KeyError:
        raise unknown("interval", interval, market.INTERVALS) from None


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise HttpError(422, f"{moment.isoformat()} has no time zone: end it in Z for UTC")
    return moment


@router.get("/quotes", response={200: Prices, **REFUSALS}, auth=READERS)
@needs("market.view_quote")
def quotes(request: HttpRequest, limit: Limit = 50, offset: Offset = 0, symbol: str = "") -> Any:
    """The newest price of each symbol with its age, its sources and how far they are apart, by symbol."""
    found = market.prices([_symbol(symbol)] if symbol else None)
    return {"items": [asdict(one) for one in found[offset : offset + limit]], "count": len(found)}


@router.get("/health", response={200: HealthOut, **REFUSALS}, auth=READERS)
@needs("market.view_quote")
def health(request: HttpRequest) -> Any:
    """Which stream process leads, and when each feed was last heard of."""
    return asdict(market.health())


@router.get("/refused", response={200: Refusals, **REFUSALS}, auth=READERS)
@needs("market.view_refusedquote")
def refused(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, symbol: str = "", source: str = ""
) -> Any:
    """Prices that were not used, each with its reason, what was measured and what is allowed."""
    rows = RefusedQuote.objects.order_by("-last_at", "-pk")
    if symbol:
        rows = rows.filter(symbol=_symbol(symbol))
    if source:
        rows = coded(rows, "source", source, tuple(FEEDS))
    return {"items": list(rows[offset : offset + limit]), "count": bounded_count(rows)}


@router.get("/candles", response={200: Bars, **REFUSALS}, auth=READERS)
@needs("market.view_candle")
def bars(
    request: HttpRequest,
    symbol: str,
    interval: str = "5m",
    limit: Annotated[int, Query(ge=1, le=1500)] = 300,
    before: When | None = None,
) -> Any:
    """Bars of 1m, 5m or 1h, the one that is still forming included. They are for people: decisions never see it."""
    width = _width(interval)
    found = candles.history(_symbol(symbol), width, _utc(before or clock.now() + width), limit)
    return {
        "symbol": symbol,
        "interval": interval,
        "items": [
            {
                "time": int(one.open_time.timestamp()),
                "open": one.open,
                "high": one.high,
                "low": one.low,
                "close": one.close,
            }
            for one in found
        ],
        "next_before": found[0].open_time if len(found) == limit else None,
    }


@router.get("/trades", response={200: Markers, **REFUSALS}, auth=READERS)
@needs("positions.view_position")
def trades(
    request: HttpRequest,
    symbol: str,
    since: When,
    until: When | None = None,
    agent: int | None = None,
    interval: str = "5m",
    limit: Limit = 500,
    offset: Offset = 0,
) -> Any:
    """Entries and exits of your positions in a symbol, each with the bar it falls into."""
    width, begin = _width(interval), _utc(since)
    check_span(begin, until and _utc(until))
    found = market.markers(
        caller(request).person,
        _symbol(symbol),
        begin,
        _utc(until or clock.now()),
        agent=agent,
        limit=limit,
        offset=offset,
    )
    items = [asdict(one) | {"bar": int(clock.bucket(one.at, width).timestamp())} for one in found.items]
    return {"items": items, "count": found.count}


# -- price rules


def _may_write(request: HttpRequest) -> Caller:
    """A key with the scope rules (or admin); a member of staff in the browser has both."""
    who = caller(request)
    if not {RULES, ADMIN} & who.scopes:
        raise HttpError(
            403, "this needs a key with the scope rules (`manage.py apikey create --scope rules`)"
        )
    return who


def _mine(request: HttpRequest, rule_id: str) -> PriceRule:
    rows = visible(PriceRule.objects.select_related("user"), caller(request).person)
    found = rows.filter(rule_id=rule_id).first()
    if found is None:
        raise Http404(f"no rule {rule_id}")
    return found


@router.get("/rules", response={200: Rules, **REFUSALS})
@needs("market.view_pricerule")
def rules_list(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, active: bool | None = True
) -> Any:
    """Your price rules, the newest first; `active=false` for those that were removed."""
    rows = visible(PriceRule.objects.select_related("user"), caller(request).person).order_by("-pk")
    if active is not None:
        rows = rows.filter(active=active)
    return {"items": list(rows[offset : offset + limit]), "count": bounded_count(rows)}


@router.post("/rules", response={201: RuleOut, **REFUSALS})
@needs("market.add_pricerule")
def rules_add(request: HttpRequest, wish: RuleIn) -> Any:
    """Make a rule of your own; it counts from the next price, also when no stream runs now."""
    who = _may_write(request)
    window = timedelta(minutes=wish.window_minutes) if wish.window_minutes else None
    try:
        endpoints.require(who.person, wish.channel)
        made = rules.add(
            who.person,
            wish.symbols,
            wish.condition,
            threshold=wish.threshold,
            window=window,
            channel=wish.channel,
        )
    except Rejected as no:
        raise HttpError(422, str(no)) from no
    return Status(201, made)


@router.get("/rules/{rule_id}", response={200: RuleOut, **ONE})
@needs("market.view_pricerule")
def rules_one(request: HttpRequest, rule_id: str) -> Any:
    """One of your rules."""
    return _mine(request, rule_id)


@router.get("/rules/{rule_id}/test", response={200: Tested, **ONE})
@needs("market.view_pricerule")
def rules_test(request: HttpRequest, rule_id: str) -> Any:
    """Would it match at the present quotes? Nothing is written and nobody is told."""
    rule = _mine(request, rule_id)
    hits = rules.holds_now(rule)
    return {"rule_id": rule.rule_id, "matches": bool(hits), "hits": [asdict(hit) for hit in hits]}


@router.delete("/rules/{rule_id}", response={200: RuleOut, **ONE})
@needs("market.change_pricerule")
def rules_remove(request: HttpRequest, rule_id: str) -> Any:
    """It matches no more; what it did stays."""
    _may_write(request)
    rule = _mine(request, rule_id)
    rules.remove(rule)
    rule.active = False
    return rule


@router.get("/deliveries", response={200: Deliveries, **REFUSALS})
@needs("market.view_ruledelivery")
def deliveries(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, rule_id: str = "", status: str = ""
) -> Any:
    """What you were told, or are to be told, of your rules' matches, the newest first."""
    rows = visible(RuleDelivery.objects.select_related("rule", "match"), caller(request).person)
    if rule_id:
        rows = rows.filter(rule__rule_id=rule_id)
    if status:
        rows = rows.filter(state=state_named(status, DeliveryState))
    return {"items": list(rows.order_by("-pk")[offset : offset + limit]), "count": bounded_count(rows)}


@router.put("/webhook", response={200: WebhookOut, **REFUSALS})
@needs("notify.change_endpoint")
def webhook_set(request: HttpRequest, wish: WebhookIn) -> Any:
    """Name your webhook; the answer holds its secret. A new one replaces the old, with another secret."""
    who = _may_write(request)
    try:
        made = endpoints.set_endpoint(who.person, "webhook", wish.url)
    except (Rejected, Retryable) as no:
        raise HttpError(422, str(no)) from no
    return {"url": made.address, "secret": endpoints.secret_of(made)}


@router.delete("/webhook", response={200: Forgotten, **REFUSALS})
@needs("notify.change_endpoint")
def webhook_forget(request: HttpRequest) -> Any:
    """Take your webhook away; what is still on its way there becomes a dead letter."""
    return {"removed": endpoints.forget(_may_write(request).person, "webhook")}
