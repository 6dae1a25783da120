"""Select the rows of the activity feed: filters, row-level scope, and one page by keyset, in one statement.

The feed has two kinds of rows. A signal is one decision to trade with the posts behind it, at the time of the decision.
A post is a row of its own where no agent made a signal of it, or where one of them declined it, at the time of writing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.db import connection

from agents.decisions import MADE_BY, Deciders
from agents.describe import matching, one_of
from agents.models import Agent, CtAccount, Subscription
from maxxit.access.inputs import YEARS
from maxxit.access.rows import Person, deployments_of, sees_all, visible
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.market.instruments import all_instruments, words_by_token
from signals_app.models import CtPost, Signal

PAGE = 30
"""Rows of a page."""
MOST = 200
"""Largest page that a caller may ask for."""
MENTIONS = timedelta(days=3)
"""With a token, posts that only mention it are searched this far back: no index holds the words of posts."""

OUTCOMES = {
    "traded": "a position was opened",
    "waiting": "no decision yet, or the order waits or is at the venue",
    "blocked": "a check, the venue or a deadline stopped the order",
    "declined": "the agent decided against the call",
    "no_call": "the post was read and holds no call on a listed token",
    "unread": "the post was not read",
}
"""Outcome -> what it means, the nearest to a trade first."""
Kind = Literal["signal", "post"]


@dataclass(frozen=True, slots=True)
class Key:
    """The place of a row in the feed; a page continues after the last one of the page before."""

    at: datetime
    kind: Kind
    pk: int

    def __str__(self) -> str:
        """Format for the query parameter `before`."""
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{self.kind}-{self.pk}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Parse the query parameter `before`. Raises Rejected."""
        at, _, rest = text.partition("-")
        kind, _, pk = rest.partition("-")
        try:
            moment = datetime.strptime(at, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        except ValueError:
            moment = None
        if moment is None or kind not in ("signal", "post") or not re.fullmatch(r"[1-9][0-9]{0,17}", pk):
            raise refused(f"no place {text!r} in the feed: send the `next_before` of the page before")
        return cls(moment, "signal" if kind == "signal" else "post", int(pk))


@dataclass(frozen=True, slots=True)
class Filters:
    """What the feed is narrowed to; an empty value does not narrow."""

    agent: Agent | None = None
    token: str = ""
    account: CtAccount | None = None
    """The followed account."""
    outcome: str = ""
    """A key of `OUTCOMES`."""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def active(self) -> bool:
        """Return whether anything is narrowed."""
        return self != NO_FILTERS


NO_FILTERS = Filters()
NAMES = ("agent", "token", "account", "outcome", "since", "until")


def read_filters(given: Mapping[str, str], person: Person) -> Filters:
    """Read filters as a person or program states them: `agent` by name or id, `account` by name, times in UTC.

    Raises Rejected with the known values for a filter or value that does not exist, or that `person` may not see.
    """
    if unknown := sorted(set(given) - set(NAMES)):
        raise refused(f"no filter {', '.join(unknown)}; known: {', '.join(NAMES)}")
    value = {name: given.get(name, "").strip() for name in NAMES}
    filters = Filters(
        agent=agent_named(value["agent"], person) if value["agent"] else None,
        token=token_named(value["token"]) if value["token"] else "",
        account=account_named(value["account"]) if value["account"] else None,
        outcome=_outcome(value["outcome"]),
        since=moment("since", value["since"]),
        until=moment("until", value["until"], after=True),
    )
    if filters.since and filters.until and filters.since >= filters.until:
        raise Rejected(f"since {value['since']} is not before until {value['until']}", code="no_span")
    return filters


def agent_named(text: str, person: Person) -> Agent:
    """Return the agent of this name, `owner/name` or id that `person` may see, first of all their own.

    Raises Rejected.
    """
    rows = visible(Agent.objects.all(), person)
    named = matching(rows, text)
    own = [agent for agent in named if person is not None and agent.owner_id == person.pk]
    agent = one_of(own or named, text)
    if agent is None and text.isdecimal() and len(text) < 19:
        agent = rows.filter(pk=text).first()
    if agent is None:
        names = list(rows.order_by("name").values_list("name", flat=True)[:10])
        known = ", ".join(names) or "none: you have no agent yet"
        raise Rejected(f"no agent {text!r}; known: {known}", code="no_agent")
    return agent


def token_named(text: str) -> str:
    """Return the symbol of a token, written in any case and with or without $. Raises Rejected."""
    symbol = text.lstrip("$#").upper()
    if symbol not in all_instruments():
        raise Rejected(f"no token {text!r}; known: {', '.join(sorted(all_instruments()))}", code="no_token")
    return symbol


def account_named(text: str) -> CtAccount:
    """Return the account of this name, with or without @. Raises Rejected."""
    account = CtAccount.objects.filter(x_username__iexact=text.lstrip("@")).first()
    if account is None:
        raise Rejected(f"no account {text!r}: the page Accounts lists all that are known", code="no_account")
    return account


def refused(message: str) -> Rejected:
    """Return the refusal of a filter."""
    return Rejected(message, code="invalid")


def _outcome(text: str) -> str:
    if text and text not in OUTCOMES:
        raise Rejected(f"no outcome {text!r}; known: {', '.join(OUTCOMES)}", code="no_outcome")
    return text


def moment(name: str, text: str, *, after: bool = False) -> datetime | None:
    """Parse a UTC date or ISO time as `time_of` does; None for an empty text."""
    return time_of(name, text, after=after) if text else None


def time_of(name: str, text: str, *, after: bool = False) -> datetime:
    """Parse a UTC date or ISO time. `after`: the end of a whole day. Raises Rejected."""
    try:
        at = clock.day(text.replace(" ", "+") if "T" in text else text, after=after)
    except (ValueError, OverflowError):
        at = None
    if at is None or at.year not in YEARS:
        raise refused(
            f"{name} {text!r} is no date or time: write 2026-03-02 or 2026-03-02T10:00 (UTC), "
            f"from {YEARS[0]} to {YEARS[-1]}"
        )
    return at


@dataclass(frozen=True, slots=True)
class Scope:
    """The agents, deployments and accounts of which the feed may show rows; None: all of the platform."""

    agents: dict[int, Agent] | None
    deployments: list[int] | None
    accounts: list[int] | None

    @classmethod
    def of(cls, person: Person, filters: Filters = NO_FILTERS) -> "Scope":
        """Read the scope of `person`, narrowed to the agent and account of `filters`."""
        whole = sees_all(person, Signal) and sees_all(person, CtPost)
        agents, accounts = None, None
        if not whole:
            agents = {agent.pk: agent for agent in visible(Agent.objects.order_by("pk"), person)}
        if filters.agent:
            agents = {filters.agent.pk: filters.agent}
        if agents is not None:
            followed = Subscription.objects.filter(agent__in=list(agents)).order_by("account")
            accounts = list(followed.values_list("account", flat=True).distinct())
        if filters.account:
            known = accounts is None or filters.account.pk in accounts
            accounts = [filters.account.pk] if known else []
        return cls(agents, deployments_of(person), accounts)


NO_FILL = "('blocked', 'rejected', 'expired', 'canceled')"
AT_VENUE = "('sending', 'unknown', 'accepted', 'partially_filled')"

SIGNAL_IS = {
    "traded": "EXISTS (SELECT FROM positions x WHERE x.signal_id = s.id{own_x})",
    # not EXISTS: beside OR its plan reads all of a customer's orders
    "blocked": f"(s.state IN ('skipped', 'expired') OR (SELECT true FROM orders o WHERE o.signal_id = s.id "  # noqa: S608 (constants only)
    f"AND o.purpose = 'open' AND o.state IN {NO_FILL}{{own_o}} LIMIT 1))",
    "waiting": "s.id IN (SELECT id FROM signals WHERE state = 'pending' "  # noqa: S608 (constants only)
    "UNION ALL SELECT o.signal_id FROM orders o WHERE o.state = 'planned' AND o.purpose = 'open'{own_o} "
    f"UNION ALL SELECT o.signal_id FROM orders o WHERE o.state IN {AT_VENUE} AND o.purpose = 'open'{{own_o}})",
}
"""Outcome -> condition of a signal; the other outcomes have no signal."""
BLOCKED_OF_ALL = (
    "s.state IN ('skipped', 'expired')",
    "(SELECT true FROM orders o WHERE o.signal_id IS NOT NULL AND o.purpose = 'open' "  # noqa: S608 (constants only)
    f"AND o.state IN {NO_FILL} LIMIT 1) "
    "AND s.state NOT IN ('skipped', 'expired') AND EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id "
    f"AND o.purpose = 'open' AND o.state IN {NO_FILL})",
)
"""The parts of `blocked` where everybody's signals count, a stream each: with OR between them the plan asks each signal
of the history about its orders where nothing matches."""
MADE_SIGNAL = (
    "EXISTS (SELECT FROM signal_posts l JOIN signals s ON s.id = l.signal_id WHERE l.ctpost_id = p.id{own_s})"
)
WAS_DECLINED = (
    "EXISTS (SELECT FROM events e WHERE e.subject = 'signals_app.ctpost/' || p.id "
    "AND e.name = 'signal.declined'{own_e})"
)
CALL_IS = {
    "": f"(NOT {MADE_SIGNAL} OR {WAS_DECLINED})",
    "declined": f"({WAS_DECLINED} OR (p.outcome <> 'candidate:waiting' AND NOT {MADE_SIGNAL}))",
    "waiting": "NOT p.processed_for_signals AND p.outcome = 'candidate:waiting'",
}
"""Outcome -> condition of a post with a call."""
REST_IS = {
    "": "true",
    "no_call": "(p.state = 'prefiltered' OR p.is_signal_candidate = false)",
    "unread": "p.id IN (SELECT id FROM ct_posts WHERE state = 'new' "
    "UNION ALL SELECT id FROM ct_posts WHERE state = 'quarantined')",
}
"""Outcome -> condition of a post without a call."""


@dataclass
class _Statement:
    """The SQL of one page, and its parameters."""

    scope: Scope
    filters: Filters
    before: Key | None
    limit: int

    def params(self) -> dict[str, Any]:
        """Return the parameters of all streams."""
        token, until = self.filters.token, self.filters.until or clock.now()
        mentioned = max(self.filters.since or until - MENTIONS, until - MENTIONS)
        words = "|".join(re.escape(word) for word in words_by_token().get(token, ()))
        return {
            "agents": list(self.scope.agents or ()),
            **Deciders.of((self.scope.agents or {}).values()).params,
            "deployments": self.scope.deployments,
            "accounts": self.scope.accounts,
            "account": self.filters.account and self.filters.account.pk,
            "token": token,
            "words": rf"(?<!\w)(?:{words})(?!\w)",
            "mentioned": mentioned,
            "since": self.filters.since,
            "until": self.filters.until,
            "before_at": self.before and self.before.at,
            "before_kind": self.before and self.before.kind,
            "before_pk": self.before and self.before.pk,
            "limit": self.limit,
        }

    def sql(self) -> str:
        """Return the statement: each stream gives its newest rows, the page is the newest of all."""
        outcome = self.filters.outcome
        streams = []
        if outcome == "blocked" and self.scope.agents is None and self.scope.deployments is None:
            streams += [self._signals(condition) for condition in BLOCKED_OF_ALL]
        elif outcome in ("", *SIGNAL_IS):
            streams.append(self._signals(SIGNAL_IS.get(outcome, "true")))
        if outcome in CALL_IS:
            token = "p.tokens @> ARRAY[%(token)s]::varchar[]" if self.filters.token else "true"
            streams.append(self._posts(f"p.is_signal_candidate AND {CALL_IS[outcome]} AND {token}"))
        if outcome in REST_IS:
            token = (
                "p.posted_at >= %(mentioned)s AND lower(p.text) ~ %(words)s" if self.filters.token else "true"
            )
            streams.append(
                self._posts(f"p.is_signal_candidate IS NOT TRUE AND {REST_IS[outcome]} AND {token}")
            )
        union = " UNION ALL ".join(f"({stream})" for stream in streams)
        return (
            f"SELECT at, kind, id FROM ({union}) AS feed ORDER BY at DESC, kind DESC, id DESC LIMIT %(limit)s"  # noqa: S608 (constants only)
        )

    def _signals(self, condition: str) -> str:
        parts = [condition]
        if self.filters.token:
            parts.append("s.token = %(token)s")
        if self.filters.account:
            parts.append(
                "s.id IN (SELECT l.signal_id FROM ct_posts c JOIN signal_posts l ON l.ctpost_id = c.id "
                "WHERE c.account_id = %(account)s AND c.is_signal_candidate)"
            )
        owner = None if self.scope.agents is None else ("agents", "s.agent_id")
        return self._stream("signals s", "s.created_at", "signal", "s.id", owner, parts)

    def _posts(self, condition: str) -> str:
        owner = None if self.scope.accounts is None else ("accounts", "p.account_id")
        return self._stream("ct_posts p", "p.posted_at", "post", "p.id", owner, [condition])

    def _stream(
        self, table: str, at: str, kind: str, pk: str, owner: tuple[str, str] | None, parts: list[str]
    ) -> str:
        """Return the newest rows of one table: those of each owner by its index, or those of all owners."""
        if self.filters.since:
            parts.append(f"{at} >= %(since)s")
        if self.filters.until:
            parts.append(f"{at} < %(until)s")
        if self.before:
            parts.append(f"{at} <= %(before_at)s")
            parts.append(f"({at}, '{kind}', {pk}) < (%(before_at)s, %(before_kind)s, %(before_pk)s)")
        newest = f"ORDER BY {at} DESC, {pk} DESC LIMIT %(limit)s"
        where = self._owned(" AND ".join(part for part in parts if part != "true") or "true")
        rows = f"SELECT {at} AS at, '{kind}' AS kind, {pk} AS id FROM {table} WHERE {where}"  # noqa: S608 (constants only)
        if owner is None:
            return f"{rows} {newest}"
        name, column = owner
        return (
            f"SELECT own.at, own.kind, own.id FROM unnest(%({name})s::bigint[]) AS owner(id) "  # noqa: S608 (constants only)
            f"CROSS JOIN LATERAL ({rows} AND {column} = owner.id {newest}) AS own "
            f"ORDER BY own.at DESC, own.id DESC LIMIT %(limit)s"
        )

    def _owned(self, condition: str) -> str:
        """Fill in whose orders, positions, signals and decisions count."""
        deployments = "" if self.scope.deployments is None else " AND {}.deployment_id = ANY(%(deployments)s)"
        agents = self.scope.agents is not None
        return condition.format(
            own_x=deployments.format("x"),
            own_o=deployments.format("o"),
            own_s=" AND s.agent_id = ANY(%(agents)s)" if agents else "",
            own_e=f" AND {MADE_BY}" if agents else "",
        )


def statement(
    scope: Scope, filters: Filters, before: Key | None = None, limit: int = PAGE
) -> tuple[str, dict[str, Any]]:
    """Return the SQL of one page and its parameters."""
    built = _Statement(scope, filters, before, limit)
    return built.sql(), built.params()


def page(scope: Scope, filters: Filters, before: Key | None = None, limit: int = PAGE) -> list[Key]:
    """Return the keys of the next `limit` rows after `before` (None: the newest), newest first."""
    with connection.cursor() as cursor:
        cursor.execute(*statement(scope, filters, before, limit))
        return [Key(at, kind, pk) for at, kind, pk in cursor.fetchall()]
