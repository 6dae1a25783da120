"""Explain what stopped a post, signal, order or price, or what it waits for: reason, measured value, limit, remedy."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from agents.models import Agent
from maxxit.access.rows import Person, visible
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.reasons import Audience
from maxxit.events.models import Event
from maxxit.events.record import subject
from maxxit.llm.models import LlmTrace
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments, listed_on
from maxxit.market.models import Quote, RefusedQuote
from maxxit.market.reasons import QuoteReason
from maxxit.reports import model_calls
from maxxit.reports.activity import feed
from maxxit.reports.activity.feed import Filters
from maxxit.reports.activity.rows import RANK, Line, Row, activity, url_of
from maxxit.reports.progress import Pace, Queue, WaitingOrder
from maxxit.reports.trades import trace
from maxxit.reports.trades.reasons import explain, in_words
from signals_app import score
from signals_app.models import CtPost, Signal
from signals_app.policy import policy as signals_policy
from signals_app.reasons import CandidateReason
from trading.models import Order
from trading.quarantine import TRIES
from trading.reasons import Reason
from trading.states import OrderState


@dataclass(frozen=True)
class Stop:
    """One reason why a row was stopped."""

    what: str
    """The row, such as `post 17` or `order 4`, or the agent that declined."""
    code: str
    meaning: str
    measured: str
    limit: str
    change: str
    """The key of the configuration, or the command."""
    audience: Audience = Audience.STAFF
    """Who can change it."""
    waiting: bool = False
    """The row is not stopped: it waits, and goes on by itself."""
    read_by: str = ""
    """Of a post that its reading stopped: provider, model and version of the prompt; empty where no trace is left."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return asdict(self)


def _stop(what: str, code: str, measured: str = "", limit: str = "") -> Stop:
    meaning, change, audience = explain(code)
    meaning, measured = in_words(code, meaning, measured, limit)
    return Stop(what, code, meaning, measured, limit, change, audience)


def why(what: str, value: str, person: Person = None) -> list[Stop]:
    """List what stopped the post, signal or order, empty when nothing did. Raises Rejected for an unknown row."""
    return KINDS[what](_row(what, value, person))


def became(value: str) -> list[dict[str, Any]]:
    """Return what became of the model's calls about a post, for `--json`. Raises Rejected for an unknown post."""
    return [
        {"trace": call.pk, "purpose": call.purpose, "read_by": trace.read_by(call), "text": found.text}
        | found.as_json()
        for call, found in model_calls.of_post(_row("post", value))
    ]


def _row(what: str, value: str, person: Person = None) -> Any:
    rows: QuerySet[Any] = visible(trace.KINDS[what]._default_manager.all(), person)
    row = rows.filter(pk=value).first() if value.isdecimal() and len(value) < 19 else None
    if row is None and what == "post":
        row = rows.filter(post_id=value).first()
    if row is None:
        raise Rejected(
            f"no {what} {value!r}: look for it in the admin, or with `manage.py trades`", code="not_found"
        )
    return row


PRICE_MISSING = frozenset(
    {
        Reason.NO_PRICE,
        f"candidate:{CandidateReason.NO_PRICE}",
        Reason.EXPOSURE_UNREADABLE,
        Reason.BALANCE_UNREADABLE,
    }
)
"""Reasons that refused prices explain further."""
HOUR = timedelta(hours=1)


def of_symbol(symbol: str) -> list[Stop]:
    """List why no position in a symbol is opened now: doubt or age of its quote, and its sources' refused prices."""
    known = all_instruments()
    if symbol not in known:
        raise Rejected(f"no symbol {symbol!r}; known: {', '.join(sorted(known))}", code="not_found")
    now, row = clock.now(), Quote.objects.filter(symbol=symbol).first()
    if row is None:
        return [_stop(f"quote of {symbol}", f"quote:{QuoteReason.NEVER}")]
    stops = []
    if row.doubt:
        stops.append(_stop(f"quote of {symbol}", f"quote:{row.doubt}", f"since {row.at:%H:%M:%S} UTC"))
    if wrong := quotes.unusable(row.price, row.at, now):
        age = f"{(now - row.at).total_seconds():.0f} s old"
        stops.append(
            _stop(f"quote of {symbol}", f"quote:{wrong}", age, f"{quotes.policy().max_age_seconds} s")
        )
    return stops + _refused(symbol, now, now) if stops else []


def _refused(symbol: str, since: datetime, until: datetime) -> list[Stop]:
    """List the prices of a symbol that were refused in those hours, by source."""
    rows = RefusedQuote.objects.filter(
        symbol=symbol,
        hour__gte=clock.bucket(since, HOUR),
        hour__lte=clock.bucket(until, HOUR),
        first_at__lte=until,
    )
    return [
        _stop(f"{symbol} by {row.source}", f"quote:{row.reason}", f"{row.value} ({row.price} USD)", row.limit)
        for row in rows.order_by("source", "reason", "hour")
    ]


def of_post(post: CtPost) -> list[Stop]:
    """List the post's outcome, each agent's reason to decline it, and what stopped its signals' orders."""
    stops = []
    if post.state == "quarantined":
        change = f"`manage.py dlq redrive post:{post.pk}`"
        error = post.last_error.strip().splitlines() or [""]
        stops.append(Stop(f"post {post.pk}", "quarantined", error[-1], f"{post.attempts} tries", "", change))
    if post.outcome not in ("signal", "traded"):
        stops.append(replace(_stop(f"post {post.pk}", post.outcome), read_by=_reader(post)))
    for event in Event.objects.filter(subject=subject(post), name="signal.declined").order_by("pk"):
        data = event.data
        what = f"{data.get('agent')} on {data.get('token')}"
        stop = _stop(what, f"candidate:{data.get('reason')}", data.get("measured", ""), data.get("limit", ""))
        if stop not in stops:
            stops.append(stop)
            if stop.code in PRICE_MISSING:
                stops += _refused(str(data.get("token")), event.at, event.at)
    if post.outcome == "signal":
        for signal in post.signals.order_by("pk"):
            stops += of_signal(signal)
    return stops


def _reader(post: CtPost) -> str:
    """Name what read a post that was read and is no candidate for a trade."""
    if post.confidence is None or post.is_signal_candidate:
        return ""
    calls = LlmTrace.objects.filter(correlation_ids__contains=[post.correlation_id], purpose="classify")
    newest = calls.order_by("-pk").first()
    return trace.read_by(newest) if newest else ""


def of_signal(signal: Signal) -> list[Stop]:
    """List why the signal was skipped or expired, and what stopped each of its orders."""
    stops = []
    if signal.reason:
        stops.append(_stop(f"signal {signal.pk}", signal.reason))
    orders = list(signal.orders.order_by("pk"))
    waiting = [order for order in orders if _is_waiting(order)]
    described = {}
    if waiting:
        queue = Queue()
        places = {row.order_id: row for row in queue.waiting(signal_id=signal.pk, most=len(orders))}
        described = {order.pk: _wait(order, places.get(order.pk), queue.pace) for order in waiting}
    for order in orders:
        stops += [described[order.pk]] if order.pk in described else of_order(order)
    return stops


def _is_waiting(order: Order) -> bool:
    """Return whether a check held the order back until later."""
    return order.state == OrderState.PLANNED and bool(order.reason) and order.attempts < TRIES


def _wait(order: Order, place: WaitingOrder | None, pace: Pace) -> Stop:
    """Describe a waiting order: its reason, its place in the queue, the estimate and the pace."""
    meaning, change, audience = explain(order.reason)
    limit = f"{pace.per_minute} entries a minute over all accounts"
    if order.reason == Reason.AWAITING_CONFIRMATION:
        limit = f"until {order.signal.expires_at:%Y-%m-%d %H:%M} UTC" if order.signal else ""
    return Stop(
        f"order {order.pk}",
        order.reason,
        meaning,
        place.text if place else _review(order),
        limit,
        change,
        audience,
        waiting=True,
    )


def _review(order: Order) -> str:
    """Return why an entry is asked for, where its risk score is the cause."""
    verdict = order.verdict
    if verdict.get("reason") != Reason.PENDING_REVIEW:
        return ""
    return f"risk score {verdict['measured']}, from {verdict['limit']} on its owner decides"


def of_order(order: Order) -> list[Stop]:
    """Name the check that blocked the order, what it waits for, or how it ended at the venue."""
    if _is_waiting(order):
        queue = Queue()
        return [_wait(order, next(iter(queue.waiting(order_id=order.pk)), None), queue.pace)]
    stops = []
    verdict = order.verdict
    if verdict or (order.reason and order.state not in (OrderState.FILLED, OrderState.PLANNED)):
        code = order.reason or verdict.get("reason", "")
        stops.append(_stop(f"order {order.pk}", code, verdict.get("measured", ""), verdict.get("limit", "")))
        if code in PRICE_MISSING:
            stops += _refused(order.symbol, order.created_at, max(order.created_at, order.updated_at))
    if order.attempts >= TRIES:
        change = f"`manage.py dlq redrive order:{order.pk}`"
        error = order.last_error.strip().splitlines() or [""]
        stops.append(
            Stop(f"order {order.pk}", "quarantined", error[-1], f"{order.attempts} tries", str(TRIES), change)
        )
    return stops


KINDS: dict[str, Callable[[Any], list[Stop]]] = {"post": of_post, "signal": of_signal, "order": of_order}
"""Kind of row -> the function that explains it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Why an agent did not trade a token around a moment, or what it traded."""

    agent: str
    token: str
    at: datetime
    since: datetime
    until: datetime
    """Decisions and posts of this span were searched."""
    outcome: str
    """The one nearest to a trade of `feed.OUTCOMES`; `none` where nothing happened."""
    text: str
    """The answer in one sentence."""
    reasons: list[Stop]
    rows: list[Row]
    """What the answer is taken from, newest first."""
    url: str
    """The activity page with the same rows."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return {
            "agent": self.agent,
            "token": self.token,
            "at": iso_utc(self.at),
            "since": iso_utc(self.since),
            "until": iso_utc(self.until),
            "outcome": self.outcome,
            "answer": self.text,
            "reasons": [stop.as_json() for stop in self.reasons],
            "items": [row.as_json() for row in self.rows],
            "url": self.url,
        }


SEARCHED = 50
"""Rows of the feed that an answer is taken from."""


def not_traded(agent_name: str, token_name: str, at: datetime, person: Person = None) -> Answer:
    """Explain why an agent did not trade a token around `at` (UTC), or name the trade that it made.

    Posts count from the lookback of generation before `at`, decisions until a bucket of generation after it. Where no
    post is about the token, the other posts of the accounts that the agent follows are listed. Raises Rejected for an
    agent or token that does not exist, or is not `person`'s.
    """
    agent, token = feed.agent_named(agent_name, person), feed.token_named(token_name)
    terms = signals_policy().generate
    since = at - timedelta(hours=max(terms.lookback_hours, terms.bucket_hours))
    until = at + timedelta(hours=terms.bucket_hours)
    filters = Filters(agent=agent, token=token, since=since, until=until)
    rows = activity(person, filters, limit=SEARCHED).rows
    about_token = bool(rows)
    if not rows:
        filters = Filters(agent=agent, since=since, until=until)
        others = activity(person, filters, limit=SEARCHED).rows
        rows = [row for row in others if row.key.kind == "post"]
    lines = [line for row in rows for line in row.lines]
    trades = [line for line in lines if line.outcome == "traded"] if about_token else []
    own = [] if trades else _of_agent(agent, token)
    reasons = own + _of_lines(lines, since, until)
    if trades:
        outcome, text = "traded", f"{agent.name} did trade {token}: {trades[0].text}"
    elif about_token:
        nearest = min(lines, key=lambda line: RANK[line.outcome])
        figures = (
            f" (measured {nearest.measured or '–'}, limit {nearest.limit or '–'})" if nearest.measured else ""
        )
        outcome, text = nearest.outcome, f"{agent.name} did not trade {token}: {nearest.text}{figures}"
    else:
        outcome, text = "none", f"{agent.name} did not trade {token}: {_nothing(agent, token, own)}"
    return Answer(agent.name, token, at, since, until, outcome, text, reasons, rows, url_of(filters))


def _of_agent(agent: Agent, token: str) -> list[Stop]:
    """List what keeps an agent from trading a token at all."""
    stops = []
    if agent.state != "active":
        change, meaning = "activate the agent: page My agents, or the admin", f"the agent is {agent.state}"
        stops.append(Stop(agent.name, "agent_not_active", meaning, "", "", change, Audience.CUSTOMER))
    if token not in (agent.tokens or listed_on(agent.venue)):
        stops.append(_stop(f"{agent.name} on {token}", f"candidate:{CandidateReason.NOT_ON_VENUE}"))
    if score.uses_posts(agent.weights) and not agent.subscriptions.exists():
        change = "follow an account: page My agents, or the admin"
        meaning = "the agent trades on posts and follows no account"
        stops.append(Stop(agent.name, "follows_nobody", meaning, "", "", change, Audience.CUSTOMER))
    return stops


def _of_lines(lines: list[Line], since: datetime, until: datetime) -> list[Stop]:
    """List the reasons of results, each once, with the refused prices behind a missing price."""
    stops: list[Stop] = []
    for line in lines:
        if line.outcome == "traded":
            continue
        what = (
            f"order {line.order_id}"
            if line.order_id
            else f"{line.agent} on {line.token}"
            if line.agent
            else "post"
        )
        stop = Stop(
            what,
            line.code,
            line.text,
            line.measured,
            line.limit,
            line.change,
            Audience(line.audience or Audience.NOBODY),
            waiting=line.outcome == "waiting",
        )
        if stop in stops:
            continue
        stops.append(stop)
        if line.code in PRICE_MISSING and line.token in all_instruments():
            stops += [one for one in _refused(line.token, since, until) if one not in stops]
    return stops


def _nothing(agent: Agent, token: str, own: list[Stop]) -> str:
    """Say why there is neither a decision nor a post about the token; `own` is what keeps the agent from trading it."""
    if own:
        not_listed = own[0].code == f"candidate:{CandidateReason.NOT_ON_VENUE}"
        return f"{token} is not among the tokens that it trades" if not_listed else own[0].meaning
    if score.uses_posts(agent.weights):
        return f"no account that it follows wrote about {token} at that time"
    return "its indicators gave no signal at that time"
