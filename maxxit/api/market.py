"""The API under /api/market: quotes by source, feed health, candles, chart markers, price rules and deliveries."""

from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import Http404, HttpRequest
from ninja import Path, Query, Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, Caller, caller
from maxxit.access.inputs import When, coded, state_named, unknown
from maxxit.access.models import ADMIN, RULES
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api.routing import Router
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.market import candles
from maxxit.market.feeds import FEEDS
from maxxit.market.instruments import all_instruments
from maxxit.market.models import RefusedQuote
from maxxit.notify import endpoints, rules, trials
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import PriceRule, RuleDelivery
from maxxit.notify.states import DeliveryState
from maxxit.paging import SKIPPED, bounded_count
from maxxit.reports import market
from maxxit.reports.schemas import Moment, Number, Problem, State
from maxxit.reports.statement import check_span
from trading.chain import chains, transfers
from trading.chain.models import WatchedAddress

router = Router(tags=["market"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}
Limit = Annotated[int, Field(ge=1, le=500, description="maximum number of rows")]
Offset = Annotated[int, Field(ge=0, le=SKIPPED, description="rows to skip")]


class SourcePriceOut(Schema):
    """The last price of one source; `off_bps` is its deviation from the quote in basis points."""

    source: str
    price: Number
    at: Moment
    age_seconds: float
    confidence: Number | None
    off_bps: Number


class QuoteOut(Schema):
    """The quote of a symbol in USD, with the source prices that it was chosen from.

    A `usable` quote is fresh enough to close on; `trusted` allows opening as well; `doubt` says why it is not trusted.
    """

    symbol: str
    price: Number
    at: Moment
    age_seconds: float
    source: str
    usable: bool
    trusted: bool
    doubt: str
    spread_bps: Number | None
    sources: list[SourcePriceOut]


class Quotes(Schema):
    """A page of quotes."""

    items: list[QuoteOut]
    count: int


class FeedOut(Schema):
    """One configured feed: whether it works, how many symbols it prices, and its last error."""

    name: str
    well: bool
    symbols: int
    newest: Moment | None
    age_seconds: float | None
    error: str


class HealthOut(Schema):
    """The price stream's leader and counts, and every feed."""

    leader: str
    ticks: int
    dropped: int
    feeds: list[FeedOut]


class RefusedOut(Schema):
    """Prices of one source that were refused for one reason within one hour."""

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
    """A page of refused prices, newest first."""

    items: list[RefusedOut]
    count: int


class BarOut(Schema):
    """One candle; `time` is its start in seconds since 1970, UTC."""

    time: int
    open: Number
    high: Number
    low: Number
    close: Number


class Bars(Schema):
    """Candles, oldest first. For older ones repeat the request with `before` = `next_before`; null: there are none."""

    symbol: str
    interval: str
    time_zone: str = "UTC"
    items: list[BarOut]
    next_before: Moment | None


class MarkerOut(Schema):
    """An entry or exit; `bar` is the start of the candle it falls into, in seconds since 1970.

    Of an exit `realised_pnl` is USDC after fees, `net` after fees and profit share.
    """

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
    net: Number | None
    correlation_id: UUID


class Markers(Schema):
    """Entries and exits, oldest first; `count` is their number in the whole span, at most 1000 of each kind."""

    time_zone: str = "UTC"
    items: list[MarkerOut]
    count: int


Kind = Literal["gt", "lt", "change_pct", "volume_usd", "spread_bps", "funding"]
Threshold = Annotated[Decimal, Field(max_digits=38, decimal_places=18)]
Minutes = Annotated[int, Field(ge=1, le=rules.LONGEST_WINDOW // timedelta(minutes=1))]


class PartIn(Schema):
    """One of the conditions that `all` or `any_of` combines; `window_minutes` for `change_pct`."""

    condition: Kind
    threshold: Threshold
    window_minutes: Minutes | None = None


class PartOut(Schema):
    """One of several combined conditions."""

    condition: str
    threshold: Number | None
    window_seconds: int | None


class RuleIn(Schema):
    """A price rule.

    `threshold` is USD for `gt`, `lt` and `volume_usd` (24 hours), percent within `window_minutes` for `change_pct`,
    basis points for `spread_bps` (between price sources), percent for `funding` (of eight hours, whichever side pays).
    `all` and `any_of` combine `parts`.
    """

    symbols: Annotated[
        list[Annotated[str, Field(max_length=20)]],
        Field(min_length=1, max_length=100, description='symbols, or ["*"] for all'),
    ]
    condition: Literal[
        "gt", "lt", "change_pct", "volume_usd", "spread_bps", "funding", "any", "all", "any_of"
    ]
    threshold: Threshold | None = None
    window_minutes: Minutes | None = None
    parts: Annotated[list[PartIn], Field(max_length=rules.MAX_PARTS)] = []
    channel: Annotated[str, Field(max_length=20)] = "inbox"


class RuleOut(Schema):
    """A price rule."""

    rule_id: str
    user: str
    symbols: list[str]
    condition: str
    threshold: Number | None
    window_seconds: int | None
    parts: list[PartOut]
    channel: str
    active: bool
    state: Annotated[State, Field(description="ACTIVE, PAUSED or DELETED")]
    created_at: Moment

    @staticmethod
    def resolve_user(row: Any) -> str:
        return str(row.user.get_username())


class Rules(Schema):
    """A page of price rules, newest first."""

    items: list[RuleOut]
    count: int


class HitOut(Schema):
    """A symbol for which the rule matches now; `value` is USD or percent."""

    symbol: str
    price: Number
    value: Number


class Tested(Schema):
    """Whether a rule matches at the present quotes; nothing is written or sent."""

    rule_id: str
    matches: bool
    hits: list[HitOut]


class FiredOut(Schema):
    """A test message of a rule that is on its way; /api/notifications/log shows what becomes of it."""

    rule_id: str
    channel: str
    text: str


class DeliveryOut(Schema):
    """A notification about a match: PENDING, SENT or DEAD, with its last error."""

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
        """USD at the match."""
        price: Decimal = row.match.price
        return price

    @staticmethod
    def resolve_value(row: Any) -> Decimal:
        """The compared value: USD or percent."""
        value: Decimal = row.match.value
        return value

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)


class Deliveries(Schema):
    """A page of deliveries, newest first."""

    items: list[DeliveryOut]
    count: int


class AddressIn(Schema):
    """An address whose transfers you are notified of; `chain` as `chains` of the list names it."""

    chain: Annotated[str, Field(max_length=40)]
    address: Annotated[str, Field(max_length=42, description="with its EIP-55 checksum")]
    label: Annotated[str, Field(max_length=transfers.MAX_LABEL, description="its name in messages")] = ""
    min_usd: Annotated[Decimal, Field(max_digits=20, decimal_places=2, description="of the smallest one")] = (
        Decimal(0)
    )


class AddressOut(Schema):
    """An address whose transfers you are notified of; `private` where you added it, not staff."""

    id: int
    chain: str
    address: str
    label: str
    min_usd: Number
    private: bool
    created_at: Moment

    @staticmethod
    def resolve_chain(row: Any) -> str:
        return chains.name_of_id(int(row.chain_id))


class Addresses(Schema):
    """A page of watched addresses, and the chains on which one may be added."""

    items: list[AddressOut]
    count: int
    chains: list[str]


class EndpointIn(Schema):
    """The address that receives the notifications of your rules on one channel."""

    channel: Annotated[str, Field(max_length=20)]
    address: Annotated[
        str, Field(max_length=endpoints.MAX_ADDRESS, description="as the channel needs it: a URL for webhook")
    ]


class EndpointOut(Schema):
    """Your endpoint on a channel; `secret` is the HMAC key of the signature, empty where messages are not signed."""

    channel: str
    address: str
    secret: str


class EndpointRemoved(Schema):
    """Whether an endpoint was configured."""

    removed: bool


class WebhookIn(Schema):
    """The address that receives the notifications of your rules with the channel `webhook`."""

    url: Annotated[str, Field(max_length=500, description="https, public, port 443")]


class WebhookOut(Schema):
    """Your webhook; `secret` is the HMAC key of the signature (docs/market.md)."""

    url: str
    secret: str


class WebhookRemoved(Schema):
    """Whether a webhook was configured."""

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
        raise HttpError(422, f"{moment.isoformat()} has no time zone: append Z for UTC")
    return moment


@router.get("/quotes", response={200: Quotes, **REFUSALS}, auth=READERS)
@needs("market.view_quote")
def quotes(request: HttpRequest, limit: Limit = 50, offset: Offset = 0, symbol: str = "") -> Any:
    """List the quote of each symbol with its age, its sources and their spread, by symbol."""
    details = market.prices([_symbol(symbol)] if symbol else None)
    return {"items": [asdict(quote) for quote in details[offset : offset + limit]], "count": len(details)}


@router.get("/health", response={200: HealthOut, **REFUSALS}, auth=READERS)
@needs("market.view_quote")
def health(request: HttpRequest) -> Any:
    """Return which stream process leads, and the newest price and last error of each feed."""
    return asdict(market.health())


@router.get("/refused", response={200: Refusals, **REFUSALS}, auth=READERS)
@needs("market.view_refusedquote")
def refused(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, symbol: str = "", source: str = ""
) -> Any:
    """List refused prices, newest first, each with reason, measured value and limit."""
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
    """List candles of 1m, 5m or 1h, oldest first, including the one still forming (no decision uses that one)."""
    width = _width(interval)
    history = candles.history(_symbol(symbol), width, _utc(before or clock.now() + width), limit)
    return {
        "symbol": symbol,
        "interval": interval,
        "items": [
            {
                "time": int(bar.open_time.timestamp()),
                "open": bar.open,
                "high": bar.high,
                "low": bar.low,
                "close": bar.close,
            }
            for bar in history
        ],
        "next_before": history[0].open_time if len(history) == limit else None,
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
    """List entries and exits of your positions in a symbol, oldest first, each with the candle it falls into."""
    width, begin = _width(interval), _utc(since)
    check_span(begin, until and _utc(until))
    page = market.markers(
        caller(request).person,
        _symbol(symbol),
        begin,
        _utc(until or clock.now()),
        agent=agent,
        limit=limit,
        offset=offset,
    )
    items = [
        asdict(marker) | {"bar": int(clock.bucket(marker.at, width).timestamp())} for marker in page.items
    ]
    return {"items": items, "count": page.count}


# -- price rules


def _require_rules_scope(request: HttpRequest) -> Caller:
    """Return the caller. Raises 403 for a key without the scope rules or admin; a staff session has both."""
    who = caller(request)
    if not {RULES, ADMIN} & who.scopes:
        raise HttpError(
            403, "this needs a key with the scope `rules`: `manage.py apikey create USER --scope rules`"
        )
    return who


def _visible_rule(request: HttpRequest, rule_id: str) -> PriceRule:
    rows = visible(PriceRule.objects.select_related("user"), caller(request).person)
    rule = rows.filter(rule_id=rule_id).first()
    if rule is None:
        raise Http404(f"no rule {rule_id}")
    return rule


@router.get("/rules", response={200: Rules, **REFUSALS})
@needs("notify.view_pricerule")
def rules_list(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, active: bool | None = True
) -> Any:
    """List your price rules, newest first; `active=false` lists those that are paused or deleted."""
    rows = visible(PriceRule.objects.select_related("user"), caller(request).person).order_by("-pk")
    if active is not None:
        rows = rows.filter(active=active)
    return {"items": list(rows[offset : offset + limit]), "count": bounded_count(rows)}


@router.post("/rules", response={201: RuleOut, **REFUSALS})
@needs("notify.add_pricerule")
def rules_add(request: HttpRequest, payload: RuleIn) -> Any:
    """Create a price rule; it is matched from the next price on."""
    who = _require_rules_scope(request)
    window = timedelta(minutes=payload.window_minutes) if payload.window_minutes else None
    try:
        endpoints.require(who.person, payload.channel)
        rule = rules.add(
            who.person,
            payload.symbols,
            payload.condition,
            threshold=payload.threshold,
            window=window,
            channel=payload.channel,
            parts=[
                rules.Part(
                    part.condition,
                    part.threshold,
                    timedelta(minutes=part.window_minutes) if part.window_minutes else None,
                )
                for part in payload.parts
            ],
        )
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return Status(201, rule)


@router.get("/rules/{rule_id}", response={200: RuleOut, **ONE})
@needs("notify.view_pricerule")
def rules_one(request: HttpRequest, rule_id: str) -> Any:
    """Return one of your price rules."""
    return _visible_rule(request, rule_id)


@router.get("/rules/{rule_id}/test", response={200: Tested, **ONE})
@needs("notify.view_pricerule")
def rules_test(request: HttpRequest, rule_id: str) -> Any:
    """Check whether a rule matches at the present quotes, without writing or sending anything."""
    rule = _visible_rule(request, rule_id)
    hits = rules.holds_now(rule)
    return {"rule_id": rule.rule_id, "matches": bool(hits), "hits": [asdict(hit) for hit in hits]}


@router.delete("/rules/{rule_id}", response={200: RuleOut, **ONE})
@needs("notify.change_pricerule")
def rules_remove(request: HttpRequest, rule_id: str) -> Any:
    """Delete a price rule; its matches and deliveries are kept."""
    _require_rules_scope(request)
    rule = _visible_rule(request, rule_id)
    rules.remove(rule)
    rule.refresh_from_db()
    return rule


@router.post("/rules/{rule_id}/pause", response={200: RuleOut, **ONE})
@needs("notify.change_pricerule", scope=RULES)
def rules_pause(request: HttpRequest, rule_id: str) -> Any:
    """Pause a price rule: it matches nothing until you resume it."""
    rule = _visible_rule(request, rule_id)
    rules.pause(rule)
    rule.refresh_from_db()
    return rule


@router.post("/rules/{rule_id}/resume", response={200: RuleOut, **ONE})
@needs("notify.change_pricerule", scope=RULES)
def rules_resume(request: HttpRequest, rule_id: str) -> Any:
    """Resume a paused price rule."""
    rule = _visible_rule(request, rule_id)
    try:
        rules.resume(rule)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    rule.refresh_from_db()
    return rule


@router.post("/rules/{rule_id}/fire", response={202: FiredOut, **ONE})
@needs("notify.change_pricerule", scope=RULES)
def rules_fire(request: HttpRequest, rule_id: str) -> Any:
    """Send a test message of a price rule to its user; it says whether the rule matches now."""
    rule = _visible_rule(request, rule_id)
    try:
        alert = trials.send_of_rule(rule)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return Status(202, {"rule_id": rule.rule_id, "channel": alert.channel, "text": alert.event.data["text"]})


@router.get("/addresses", response={200: Addresses, **REFUSALS})
@needs("trading.view_watchedaddress")
def addresses_list(request: HttpRequest, limit: Limit = 50, offset: Offset = 0) -> Any:
    """List the addresses whose transfers are reported to you."""
    rows = visible(WatchedAddress.objects.all(), caller(request).person)
    return {
        "items": list(rows[offset : offset + limit]),
        "count": bounded_count(rows),
        "chains": list(transfers.watchable()),
    }


@router.post("/addresses", response={201: AddressOut, **REFUSALS})
@needs("trading.add_watchedaddress", scope=RULES)
def addresses_add(request: HttpRequest, payload: AddressIn) -> Any:
    """Watch an address; its transfers are reported to you from the next final block on."""
    row = transfers.add_own(
        caller(request).person,
        payload.chain,
        payload.address,
        label=payload.label,
        min_usd=payload.min_usd,
    )
    return Status(201, row)


@router.delete("/addresses/{address_id}", response={200: AddressOut, **ONE})
@needs("trading.change_watchedaddress", scope=RULES)
def addresses_remove(request: HttpRequest, address_id: Annotated[int, Path(ge=1, lt=2**63)]) -> Any:
    """Watch an address no more that you added."""
    row = transfers.of_user(caller(request).person).filter(pk=address_id).first()
    if row is None:
        raise Http404(f"no watched address {address_id}")
    shown = AddressOut.from_orm(row)
    try:
        transfers.remove_own(row)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return shown


@router.get("/deliveries", response={200: Deliveries, **REFUSALS})
@needs("notify.view_ruledelivery")
def deliveries(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, rule_id: str = "", status: str = ""
) -> Any:
    """List the deliveries of your rules' matches, newest first. Filter by `rule_id` or `status`."""
    rows = visible(RuleDelivery.objects.select_related("rule", "match"), caller(request).person)
    if rule_id:
        rows = rows.filter(rule__rule_id=rule_id)
    if status:
        rows = rows.filter(state=state_named(status, DeliveryState))
    return {"items": list(rows.order_by("-pk")[offset : offset + limit]), "count": bounded_count(rows)}


@router.put("/webhook", response={200: WebhookOut, **REFUSALS})
@needs("notify.change_endpoint")
def webhook_set(request: HttpRequest, payload: WebhookIn) -> Any:
    """Set your webhook and return its secret. It replaces the previous webhook and secret."""
    who = _require_rules_scope(request)
    try:
        endpoint = endpoints.set_endpoint(who.person, "webhook", payload.url)
    except (Rejected, Retryable) as error:
        raise HttpError(422, str(error)) from error
    return {"url": payload.url, "secret": endpoints.secret_of(endpoint)}


@router.delete("/webhook", response={200: WebhookRemoved, **REFUSALS})
@needs("notify.change_endpoint")
def webhook_remove(request: HttpRequest) -> Any:
    """Remove your webhook; deliveries to it that are still pending become dead letters."""
    return {"removed": endpoints.forget(_require_rules_scope(request).person, "webhook")}


@router.put("/endpoints", response={200: EndpointOut, **REFUSALS})
@needs("notify.change_endpoint")
def endpoint_set(request: HttpRequest, payload: EndpointIn) -> Any:
    """Set your address on a channel and return its secret. It replaces the previous address and secret."""
    who = _require_rules_scope(request)
    try:
        endpoint = endpoints.set_endpoint(who.person, payload.channel, payload.address)
    except (Rejected, Retryable) as error:
        raise HttpError(422, str(error)) from error
    return {
        "channel": endpoint.channel,
        "address": payload.address,
        "secret": endpoints.secret_of(endpoint) if CHANNELS.open(endpoint.channel).signs else "",
    }


@router.delete("/endpoints", response={200: EndpointRemoved, **REFUSALS})
@needs("notify.change_endpoint")
def endpoint_remove(request: HttpRequest, channel: str) -> Any:
    """Remove your address on a channel; deliveries to it that are still pending become dead letters."""
    who = _require_rules_scope(request)
    try:
        return {"removed": endpoints.forget(who.person, channel)}
    except Rejected as error:
        raise HttpError(422, str(error)) from error
