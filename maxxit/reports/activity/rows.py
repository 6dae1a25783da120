"""The rows of the activity feed: what was read in each post, and what each agent did or why it did not trade."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import connection
from django.urls import reverse

from agents.decisions import Deciders
from maxxit.access.rows import Person
from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, brief, plain
from maxxit.core.reasons import Audience
from maxxit.events.models import Event
from maxxit.reports.activity import feed
from maxxit.reports.activity.feed import Filters, Key, Scope
from maxxit.reports.trades.reasons import explain, in_words
from positions.models import Position
from positions.performance.equity import with_unrealised
from signals_app.models import CtPost, Signal
from signals_app.outcome import candidate
from signals_app.reasons import CandidateReason
from trading.models import Order
from trading.quarantine import TRIES
from trading.states import IN_FLIGHT, OrderState

RANK = {name: place for place, name in enumerate(feed.OUTCOMES)}
"""Outcome -> its place; the smallest is nearest to a trade."""
LINES = 5
"""Results shown of each row; a row of staff may have those of thousands of accounts."""
FOLLOWED_LATER = (
    "no decision of the agent on this post is recorded: it did not follow the account, was not active, "
    "or left the post out of its decision at the time"
)
OF_THE_POST = frozenset(
    candidate(reason)
    for reason in (
        CandidateReason.WAITING,
        CandidateReason.NO_FOLLOWER,
        CandidateReason.TOO_OLD,
        CandidateReason.NOT_ON_VENUE,
        CandidateReason.DELETED,
    )
)
"""Outcomes of a call that hold for every agent; others are a decision of one agent, perhaps of another owner."""


@dataclass(frozen=True, slots=True)
class Post:
    """A post as it was written, and how it was read."""

    id: int
    author: str
    text: str
    posted_at: datetime
    deleted: bool
    edited: bool
    reading: str
    """One sentence."""
    reasoning: str
    """As the model gave it."""
    correlation_id: UUID


@dataclass(frozen=True, slots=True)
class Line:
    """What one agent, or one account that it trades for, did: a trade, or the reason why there was none."""

    outcome: str
    """A key of `feed.OUTCOMES`."""
    agent: str
    """Empty where no agent decided."""
    token: str
    text: str
    """One sentence."""
    code: str = ""
    """Of the reason; empty for a trade."""
    measured: str = ""
    limit: str = ""
    change: str = ""
    """What changes it."""
    audience: str = ""
    """Who can change it."""
    account: str = ""
    """The account traded from."""
    order_id: int | None = None
    position_id: int | None = None
    pnl: Decimal | None = None
    """USDC: realised after fees and profit share, or unrealised at the newest quote before fees."""
    open: bool = False
    at: datetime | None = None
    """Of the entry, for a trade."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the feed: a decision with its posts, or a post that no agent traded."""

    key: Key
    outcome: str
    """That of the line nearest to a trade."""
    posts: list[Post]
    lines: list[Line]
    more: int
    """Results that are not shown."""
    agent: str
    token: str
    side: str
    decision: str
    """The signal in one sentence; empty for a post."""
    signal_id: int | None
    correlation_id: UUID

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API: amounts as strings, times in UTC."""
        return {
            "at": iso_utc(self.key.at),
            "kind": self.key.kind,
            "id": self.key.pk,
            "outcome": self.outcome,
            "agent": self.agent,
            "token": self.token,
            "side": self.side,
            "decision": self.decision,
            "signal_id": self.signal_id,
            "correlation_id": str(self.correlation_id),
            "posts": [_plain(asdict(post)) for post in self.posts],
            "results": [_plain(asdict(line)) for line in self.lines],
            "more_results": self.more,
        }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Format times, amounts and ids for JSON."""
    texts: dict[type, Any] = {datetime: iso_utc, Decimal: plain, UUID: str}
    return {name: texts.get(type(value), lambda same: same)(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the feed."""

    rows: list[Row]
    next_before: Key | None
    """Where the next page continues; None on the last one."""

    def as_json(self) -> dict[str, Any]:
        """The answer of `GET /api/activity`."""
        return {
            "items": [row.as_json() for row in self.rows],
            "next_before": str(self.next_before) if self.next_before else None,
        }


def activity(
    person: Person,
    filters: Filters = feed.NO_FILTERS,
    before: Key | None = None,
    limit: int = feed.PAGE,
) -> Page:
    """Return a page of what happened to `person`'s posts and signals, newest first, in a bounded number of queries."""
    scope = Scope.of(person, filters)
    keys = feed.page(scope, filters, before, limit + 1)
    rows = _assemble(keys[:limit], scope, filters)
    return Page(rows, keys[limit - 1] if len(keys) > limit else None)


def _assemble(keys: Sequence[Key], scope: Scope, filters: Filters) -> list[Row]:
    """Read what belongs to the rows of a page, each table once."""
    signal_ids = [key.pk for key in keys if key.kind == "signal"]
    post_ids = [key.pk for key in keys if key.kind == "post"]
    signals = Signal.objects.select_related("agent").in_bulk(signal_ids)
    links = _links(signal_ids)
    behind = sorted({post for posts in links.values() for post in posts})
    posts = CtPost.objects.select_related("account").in_bulk([*post_ids, *behind])
    results = _results(signal_ids, scope)
    declined = _declined([posts[pk] for pk in post_ids if pk in posts], scope)
    rows = []
    for key in keys:
        if key.kind == "signal" and key.pk in signals:
            of_signal = [posts[pk] for pk in links[key.pk]]
            rows.append(_signal_row(key, signals[key.pk], of_signal, results[key.pk]))
        elif key.kind == "post" and key.pk in posts:
            rows.append(_post_row(key, posts[key.pk], declined[key.pk], scope, filters))
    return rows


def _links(signal_ids: Sequence[int]) -> dict[int, list[int]]:
    """Return signal -> the ids of its posts, oldest first."""
    pairs = Signal.posts.through.objects.filter(signal__in=signal_ids).order_by("ctpost")
    links: dict[int, list[int]] = defaultdict(list)
    for signal_id, post_id in pairs.values_list("signal_id", "ctpost_id"):
        links[signal_id].append(post_id)
    return links


# -- posts


def post_of(row: CtPost) -> Post:
    """Return a post as the feed shows it."""
    return Post(
        id=row.pk,
        author=row.account.x_username,
        text=row.text,
        posted_at=row.posted_at,
        deleted=row.deleted_at is not None,
        edited=row.edited_at is not None,
        reading=reading_of(row),
        reasoning=row.reasoning,
        correlation_id=row.correlation_id,
    )


def reading_of(row: CtPost) -> str:
    """Say in one sentence how a post was read."""
    if row.is_signal_candidate:
        calls = ", ".join(f"{side} {token}" for token, side in row.sides.items())
        confidence = f", confidence {row.confidence:.2f}" if row.confidence is not None else ""
        return f"read as a call: {calls}{confidence}"
    if row.state == "quarantined":
        return f"not read: quarantined after {row.attempts} tries"
    return explain(row.outcome)[0]


def _post_row(key: Key, row: CtPost, declined: list[Line], scope: Scope, filters: Filters) -> Row:
    """Return the row of a post that no agent traded, or that one of them declined."""
    lines = [line for line in declined if filters.token in ("", line.token)]
    if not lines:
        lines = [_undecided(row, scope, filters)]
    return Row(
        key=key,
        outcome=min((line.outcome for line in lines), key=RANK.__getitem__),
        posts=[post_of(row)],
        lines=lines[:LINES],
        more=max(0, len(lines) - LINES),
        agent=lines[0].agent if len({line.agent for line in lines}) == 1 else "",
        token=", ".join(row.tokens),
        side=", ".join(dict.fromkeys(row.sides.values())),
        decision="",
        signal_id=None,
        correlation_id=row.correlation_id,
    )


def _undecided(row: CtPost, scope: Scope, filters: Filters) -> Line:
    """Return the reason of a post for which no decision of an agent in `scope` is recorded."""
    agent = filters.agent.name if filters.agent else ""
    token = filters.token or ", ".join(row.tokens)
    if row.is_signal_candidate:
        if row.outcome == "candidate:waiting":
            return _stopped("waiting", row.outcome, agent, token)
        if row.outcome in OF_THE_POST or (scope.agents is None and row.outcome.startswith("candidate:")):
            return _stopped("declined", row.outcome, agent, token)
        return Line("declined", agent, token, FOLLOWED_LATER, code="not_followed")
    if row.state == "quarantined":
        error = (row.last_error.strip().splitlines() or ["no usable answer"])[-1]
        change = f"`manage.py dlq redrive post:{row.pk}`"
        return Line(
            "unread",
            agent,
            token,
            f"the post could not be read: {error}",
            code="quarantined",
            measured=f"{row.attempts} tries",
            change=change,
            audience=Audience.STAFF,
        )
    unread = row.state == "new"
    return _stopped("unread" if unread else "no_call", row.outcome, agent, token)


def _stopped(
    outcome: str, code: str, agent: str, token: str, measured: str = "", limit: str = "", **fields: Any
) -> Line:
    """Return the line of a reason code."""
    meaning, change, audience = explain(code)
    meaning, measured = in_words(code, meaning, measured, limit)
    return Line(
        outcome,
        agent,
        token,
        meaning,
        code=code,
        measured=measured,
        limit=limit,
        change=change,
        audience=audience,
        **fields,
    )


def _declined(posts: Iterable[CtPost], scope: Scope) -> dict[int, list[Line]]:
    """Return post -> the newest reason of each agent and token that declined it."""
    subjects = {f"signals_app.ctpost/{post.pk}": post.pk for post in posts if post.is_signal_candidate}
    rows = Event.objects.filter(subject__in=list(subjects), name="signal.declined").order_by("pk")
    agents = None if scope.agents is None else Deciders.of(scope.agents.values())
    newest: dict[int, dict[tuple[str, str], Line]] = defaultdict(dict)
    for row in rows:
        data, post = row.data, subjects[row.subject]
        if agents is not None and not agents.made(data, row.at):
            continue
        agent, token = str(data.get("agent", "")), str(data.get("token", ""))
        newest[post][str(data.get("agent_id", agent)), token] = _stopped(
            "declined",
            f"candidate:{data.get('reason')}",
            agent,
            token,
            str(data.get("measured", "")),
            str(data.get("limit", "")),
            at=row.at,
        )
    return defaultdict(list, {post: list(lines.values()) for post, lines in newest.items()})


# -- signals

ORDERS = """
SELECT o.signal_id, o.state, o.reason, count(*), (array_agg(o.id ORDER BY o.id DESC))[1]
FROM orders o
WHERE o.signal_id = ANY(%(signals)s) AND o.purpose = 'open'
  AND (%(deployments)s::bigint[] IS NULL OR o.deployment_id = ANY(%(deployments)s::bigint[]))
GROUP BY o.signal_id, o.state, o.reason
"""
POSITIONS = """
SELECT p.signal_id, count(*), (array_agg(p.id ORDER BY p.id DESC))[1:%(shown)s]
FROM positions p
WHERE p.signal_id = ANY(%(signals)s)
  AND (%(deployments)s::bigint[] IS NULL OR p.deployment_id = ANY(%(deployments)s::bigint[]))
GROUP BY p.signal_id
"""


@dataclass(slots=True)
class _Results:
    """What became of a signal, as far as it is this person's."""

    positions: list[Position] = field(default_factory=list)
    opened: int = 0
    orders: list[tuple[Order, int]] = field(default_factory=list)
    """The newest order of each state and reason that opened no position, with their number."""


def _results(signal_ids: Sequence[int], scope: Scope) -> dict[int, _Results]:
    """Read the orders and positions of signals: counts by state and reason, and the newest of each."""
    params = {"signals": list(signal_ids), "deployments": scope.deployments, "shown": LINES}
    with connection.cursor() as cursor:
        cursor.execute(POSITIONS, params)
        opened = cursor.fetchall()
        cursor.execute(ORDERS, params)
        states = [row for row in cursor.fetchall() if row[1] != OrderState.FILLED]
    whole = with_unrealised(Position.objects.select_related("deployment__agent"))
    positions = whole.in_bulk([pk for *_, ids in opened for pk in ids])
    orders = Order.objects.select_related("deployment__agent").in_bulk([pk for *_, pk in states])
    results: dict[int, _Results] = defaultdict(_Results)
    for signal_id, count, ids in opened:
        results[signal_id].opened = count
        results[signal_id].positions = [positions[pk] for pk in ids]
    for signal_id, _, _, count, pk in states:
        results[signal_id].orders.append((orders[pk], count))
    return results


def _signal_row(key: Key, signal: Signal, posts: list[CtPost], results: _Results) -> Row:
    """Return the row of a decision to trade."""
    agent = signal.agent.name
    lines = [_trade(position, agent) for position in results.positions]
    lines += [_order(order, count, agent) for order, count in results.orders]
    if signal.reason and not results.orders:
        lines.append(_stopped("blocked", signal.reason, agent, signal.token))
    if not lines:
        lines = [_no_order(signal, agent)]
    lines.sort(key=lambda line: RANK[line.outcome])
    hidden = max(0, results.opened - len(results.positions)) + max(0, len(lines) - LINES)
    return Row(
        key=key,
        outcome=lines[0].outcome,
        posts=[post_of(post) for post in posts],
        lines=lines[:LINES],
        more=hidden,
        agent=agent,
        token=signal.token,
        side=signal.side,
        decision=decision_of(signal),
        signal_id=signal.pk,
        correlation_id=signal.correlation_id,
    )


def decision_of(signal: Signal) -> str:
    """Say in one sentence what an agent decided."""
    return (
        f"{signal.agent.name}: {signal.side} {signal.token} at {_price(signal.entry_price)} USD, confidence "
        f"{signal.confidence:.2f}, stop {plain(signal.stop_loss_pct)} %, target {plain(signal.take_profit_pct)} %"
    )


def _price(value: Decimal) -> str:
    return plain(value.quantize(Decimal("0.01"))) if value >= 1 else brief(value)


def _trade(position: Position, agent: str) -> Line:
    """Return the line of a position."""
    verb = "bought" if position.side == "long" else "sold short"
    is_closed = position.state == "closed"
    entry = f"{verb} {brief(position.quantity)} {position.symbol} at {_price(position.entry_price)} USD"
    reason = position.exit_reason.replace("_", " ")
    end = f"closed by {reason} at {_price(position.exit_price or ZERO)} USD" if is_closed else position.state
    text = f"{entry}; {end}"
    return Line(
        "traded",
        agent,
        position.symbol,
        text,
        account=position.deployment.account,
        order_id=position.entry_order_id,
        position_id=position.pk,
        pnl=position.net if is_closed else position.unrealised,  # type: ignore[attr-defined]
        open=not is_closed,
        at=position.opened_at,
    )


def _order(order: Order, count: int, agent: str) -> Line:
    """Return the line of an order that opened no position, or of `count` with the same reason."""
    waits = order.state == OrderState.PLANNED or order.state in IN_FLIGHT
    account = order.deployment.account if count == 1 else f"{count} accounts"
    place: dict[str, Any] = {"account": account, "order_id": order.pk}
    if order.attempts >= TRIES and (waits or not order.reason):
        error = (order.last_error.strip().splitlines() or ["no message"])[-1]
        text = f"set aside after {order.attempts} unexpected errors: {error}"
        change = f"`manage.py dlq redrive order:{order.pk}`"
        return Line(
            "blocked", agent, order.symbol, text, code="quarantined", measured=f"{order.attempts} tries",
            limit=str(TRIES), change=change, audience=Audience.STAFF, **place,
        )  # fmt: skip
    if waits and not order.reason:
        text = (
            "the order is about to be checked"
            if order.state == OrderState.PLANNED
            else "the order is at the venue"
        )
        return Line("waiting", agent, order.symbol, text, code=order.state, **place)
    verdict: Mapping[str, Any] = order.verdict
    code = order.reason or verdict.get("reason", "") or order.state
    measured, limit = str(verdict.get("measured", "")), str(verdict.get("limit", ""))
    return _stopped("waiting" if waits else "blocked", code, agent, order.symbol, measured, limit, **place)


def _no_order(signal: Signal, agent: str) -> Line:
    """Return the line of a signal without an order of this person."""
    if signal.state == "pending":
        return Line("waiting", agent, signal.token, "the orders are about to be planned", code="pending")
    text = "no order of your accounts belongs to this signal: they were not active when it was made"
    return Line("blocked", agent, signal.token, text, code="no_active_deployment", audience=Audience.CUSTOMER)


def url_of(filters: Filters, **changes: str) -> str:
    """Return the address of the feed with these filters, and `changes` made."""
    values = {
        "agent": str(filters.agent.pk) if filters.agent else "",
        "token": filters.token,
        "account": filters.account.x_username if filters.account else "",
        "outcome": filters.outcome,
        "since": iso_utc(filters.since) if filters.since else "",
        "until": iso_utc(filters.until) if filters.until else "",
    } | changes
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{reverse('activity')}?{query}" if query else reverse("activity")
