"""What the platform's own database recorded of some accounts: posts with their arrival times, impact factors, candles.

A preview plays it as it was known then: a post counts from the moment when it was stored, an edit from the moment when
it was seen, an impact factor from the night that measured it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from agents.models import CtAccount
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.market.feeds.base import Tick
from maxxit.market.feeds.file import BAR
from maxxit.pipeline.runs import Counts
from maxxit.pipeline.stages import STAGES
from maxxit.replay.run import Playback
from signals_app import stated
from signals_app.policy import policy as signals_policy
from signals_app.social import store as social
from signals_app.sources.base import Cursor, Engagement, PostSource, RawPost, Refused, StatedCall

AUTHORS = "signals_app.tasks.update_authors"
NEUTRAL = Decimal("0.5")
"""Impact factor of an account that was not measured yet."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that a source delivered: a post, an edit or a deletion."""

    at: datetime
    """When the platform stored it, UTC."""
    post: RawPost


class StoredPosts:
    """A post source that delivers each arrival once, from its time on."""

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self._waiting: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in sorted(arrivals, key=lambda one: (one.at, len(one.post.post_id), one.post.post_id)):
            self._waiting[arrival.post.username.lower()].append(arrival)

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch what arrived of `username` up to now and was not fetched before."""
        waiting, now = self._waiting[username.lower()], clock.now()
        posts = [arrival.post for arrival in waiting if arrival.at <= now]
        del waiting[: len(posts)]
        return posts

    def refused(self) -> Iterable[Refused]:
        """Return nothing: what was no post was never stored as one."""
        return ()


@dataclass(frozen=True, slots=True)
class Account:
    """A followed account as it is stored."""

    name: str
    source: str
    impact_factor: Decimal
    """At the start of the span."""


@dataclass
class StoredDays(Playback):
    """What is stored of some accounts and of the prices, from `start` to `end`."""

    start: datetime
    end: datetime
    accounts: list[Account]
    arrivals: list[Arrival]
    factors: list[tuple[datetime, str, Decimal]]
    """(measured at, account, impact factor) within the span, in order of time."""
    closes: dict[datetime, list[Tick]]
    """When a bar's close became known -> the closes."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def sources(self) -> dict[str, PostSource]:
        """Return one source for each source name of the accounts."""
        of = {account.name.lower(): account.source for account in self.accounts}
        return {
            source: StoredPosts(one for one in self.arrivals if of[one.post.username.lower()] == source)
            for source in sorted(set(of.values()))
        }

    def ticks(self) -> dict[datetime, list[Tick]]:
        """Return the stored closes."""
        return self.closes

    def due(self) -> dict[datetime, list[str]]:
        """Return the scheduled tasks, and ingestion and impact factors when they happened."""
        due = super().due()
        extra = [(arrival.at, STAGES[0].task) for arrival in self.arrivals]
        extra += [(at, AUTHORS) for at, _, _ in self.factors]
        for at, task in extra:
            moment = next_bar(at)
            if moment <= self.end and task not in due.setdefault(moment, []):
                due[moment].append(task)
        return due

    def passes(self) -> dict[str, tuple[str, Callable[[], Counts]]]:
        """Return the passes of a replay, with the impact factors that were measured then."""
        waiting = list(self.factors)

        def authors_pass() -> Counts:
            done = 0
            while waiting and waiting[0][0] <= clock.now():
                _, name, factor = waiting.pop(0)
                done += CtAccount.objects.filter(x_username=name).update(impact_factor=factor)
            return Counts(done, done)

        return super().passes() | {AUTHORS: ("authors", authors_pass)}

    def posts_by_account(self) -> Counter[str]:
        """Return account -> number of posts that arrived, edits and deletions not counted."""
        ids = {(one.post.username, one.post.post_id) for one in self.arrivals if not one.post.deleted}
        return Counter(username for username, _ in ids)


def next_bar(moment: datetime) -> datetime:
    """Return the first end of a five-minute bar at or after `moment`."""
    begun = clock.bucket(moment, BAR)
    return begun if begun == moment else begun + BAR


def warm_up() -> timedelta:
    """Return how long before the span candles are needed, so that indicators are there from the start."""
    rules = signals_policy().generate
    return timedelta(minutes=rules.bar_minutes * (rules.bars + 1))


ACCOUNTS = """
SELECT DISTINCT ON (lower(a.x_username)) a.id, a.x_username, a.source, (
    SELECT h.impact_factor FROM impact_factor_history h WHERE h.account_id = a.id AND h.at <= %(start)s
    ORDER BY h.day DESC LIMIT 1)
FROM ct_accounts a WHERE lower(a.x_username) = ANY(%(names)s)
ORDER BY lower(a.x_username), a.id
"""
POSTS = """
SELECT p.post_id, a.x_username, p.text, p.posted_at, p.ingested_at, p.edited_at, p.edited_text, p.deleted_at,
       p.link, p.likes, p.reposts, p.replies, p.quotes,
       CASE WHEN p.reasoning = %(stated)s THEN p.sides END, p.confidence
FROM ct_posts p JOIN ct_accounts a ON a.id = p.account_id
WHERE p.account_id = ANY(%(ids)s) AND p.ingested_at >= %(start)s AND p.ingested_at < %(end)s
  AND p.posted_at >= %(start)s - %(age)s AND p.posted_at < %(end)s
ORDER BY p.ingested_at, p.id LIMIT %(most)s
"""
FACTORS = """
SELECT h.at, a.x_username, h.impact_factor FROM impact_factor_history h JOIN ct_accounts a ON a.id = h.account_id
WHERE h.account_id = ANY(%(ids)s) AND h.day >= %(start)s::date AND h.at > %(start)s AND h.at <= %(end)s
ORDER BY h.at, a.id
"""
CLOSES = """
SELECT symbol, close, open_time + %(bar)s FROM candles
WHERE symbol = ANY(%(symbols)s) AND open_time >= %(start)s - %(bar)s AND open_time <= %(end)s - %(bar)s
ORDER BY open_time, symbol
"""


def read(
    names: Sequence[str], symbols: Sequence[str], start: datetime, end: datetime, most: int
) -> StoredDays:
    """Read what is stored of these accounts and tokens, through Django's default connection.

    Args:
        most: maximum number of posts.

    Raises Rejected where there are more posts than that, no price, or an account is not known.
    """
    span: dict[str, Any] = {
        "start": start,
        "end": end,
        "bar": BAR,
        "symbols": list(symbols),
        "most": most + 1,
        "stated": stated.REASONING,
    }
    with connection.cursor() as cursor:
        cursor.execute(ACCOUNTS, span | {"names": [name.lower() for name in names]})
        rows = cursor.fetchall()
        span["ids"] = [pk for pk, *_ in rows]
        span["age"] = timedelta(hours=signals_policy().generate.max_post_age_hours)
        cursor.execute(POSTS, span)
        posts = cursor.fetchall()
        cursor.execute(FACTORS, span)
        factors = cursor.fetchall()
        closes: dict[datetime, list[Tick]] = defaultdict(list)
        cursor.execute(CLOSES, span)
        for symbol, close, known_at in cursor:
            closes[known_at].append(Tick(symbol, close, known_at, "stored"))
    if len(posts) > most:
        raise Rejected(
            f"these accounts wrote more than {most:,} posts in that time: choose fewer days or accounts"
        )
    if not closes:
        raise Rejected(f"no price is recorded between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC")
    accounts = [
        Account(name, source, NEUTRAL if factor is None else factor) for _, name, source, factor in rows
    ]
    arrivals = [arrival for row in posts for arrival in _arrivals(_Row(*row), end)]
    return StoredDays(start, end, accounts, arrivals, factors, closes)


@dataclass(frozen=True, slots=True)
class _Row:
    """A stored post."""

    post_id: str
    username: str
    text: str
    posted_at: datetime
    stored_at: datetime
    edited_at: datetime | None = None
    edited_text: str | None = None
    deleted_at: datetime | None = None
    link: str = ""
    likes: int | None = None
    reposts: int | None = None
    replies: int | None = None
    quotes: int | None = None
    stated_sides: str | None = None
    """JSON, token -> side, of a call that the sender stated; None where a reader found the calls."""
    confidence: Decimal | None = None

    @property
    def post(self) -> RawPost:
        """The post as its source delivered it."""
        sides: dict[str, str] = json.loads(self.stated_sides) if self.stated_sides else {}
        calls = [StatedCall(token, side, self.confidence or Decimal(0)) for token, side in sides.items()]
        return RawPost(
            self.post_id,
            self.username,
            self.text,
            self.posted_at,
            engagement=Engagement(self.likes, self.reposts, self.replies, self.quotes),
            link=self.link,
            call=calls[0] if calls else None,
        )


def _arrivals(row: _Row, end: datetime) -> list[Arrival]:
    """Return what arrived of one post before `end`.

    A text that replaced another before it was read (`edited_text` is empty) counts from the edit on: the earlier text
    is not kept with the post.
    """
    first = row.stored_at if row.edited_at is None or row.edited_text is not None else row.edited_at
    arrived = [Arrival(first, row.post)]
    if row.edited_at is not None and row.edited_text is not None:
        arrived.append(Arrival(row.edited_at, replace(row.post, text=row.edited_text)))
    if row.deleted_at is not None:
        deleted = RawPost(row.post_id, row.username, "", row.deleted_at, deleted=True)
        arrived.append(Arrival(row.deleted_at, deleted))
    return [arrival for arrival in arrived if arrival.at < end]


COPY_OUT = """
COPY (SELECT symbol, open_time, open, high, low, close, volume FROM candles
      WHERE symbol = ANY({symbols}) AND open_time >= {since} AND open_time < {until}) TO STDOUT
"""
COPY_IN = "COPY candles (symbol, open_time, open, high, low, close, volume) FROM STDIN"
SOCIAL = ", ".join(("symbol", "at", *social.FIELDS))
SOCIAL_OUT = f"""
COPY (SELECT {SOCIAL} FROM social_metrics
      WHERE symbol = ANY({{symbols}}) AND at >= {{since}} AND at < {{until}}) TO STDOUT
"""  # noqa: S608 (names of columns)
SOCIAL_IN = f"COPY social_metrics ({SOCIAL}) FROM STDIN"


def copy_candles(live: Any, symbols: Sequence[str], since: datetime, until: datetime) -> None:
    """Copy five-minute bars of [since, until) from the connection `live` to Django's default connection."""
    _copy(live, COPY_OUT, COPY_IN, symbols, since, until)


def copy_social(live: Any, symbols: Sequence[str], start: datetime, end: datetime) -> None:
    """Copy the social metrics that decisions of [start, end) may use; none uses one before it was read."""
    hours = timedelta(hours=signals_policy().generate.social_hours)
    _copy(live, SOCIAL_OUT, SOCIAL_IN, symbols, start - hours - social.DAY - social.TOLERANCE, end)


def _copy(
    live: Any,
    out: LiteralString,
    into_table: LiteralString,
    symbols: Sequence[str],
    since: datetime,
    until: datetime,
) -> None:
    from psycopg import sql

    statement = sql.SQL(out).format(
        symbols=sql.Literal(list(symbols)), since=sql.Literal(since), until=sql.Literal(until)
    )
    with (
        live.cursor() as source,
        connection.cursor() as target,
        source.copy(statement) as rows,
        target.copy(into_table) as into,
    ):
        for block in rows:
            into.write(block)
