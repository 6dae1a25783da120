"""What became of the calls of language models: what the price did, and the PnL of the positions that they caused.

A call that reads posts has the token and side of each post whose reading it gave, and of the positions of signals on
several posts the part that the decision gave these posts. A call that reviews a trade has the signal that it let pass,
and its positions in full. So a position counts once among readings and once among reviews; the two do not add up.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import QuerySet

from maxxit.access.rows import Person, visible
from maxxit.core.money import ZERO, plain, split, usdc
from maxxit.llm.models import LlmTrace
from positions.margins import attach
from positions.models import Position
from positions.performance.equity import with_unrealised
from signals_app.call_outcomes import moves, outcomes
from signals_app.models import CtPost, Signal

READING, REVIEW = "classify", "generate"
"""Purposes whose answers decisions use; the others act on nothing."""
READ_POSTS = """
SELECT t.id, p.id FROM llm_traces t JOIN ct_posts p ON p.correlation_id = ANY(t.correlation_ids)
WHERE t.id = ANY(%(traces)s) AND t.purpose = 'classify' AND t.status = 'ok' AND p.is_signal_candidate
  AND NOT EXISTS (
      SELECT FROM llm_traces later WHERE later.correlation_ids @> ARRAY[p.correlation_id]
        AND later.purpose = 'classify' AND later.status = 'ok' AND later.id > t.id)
ORDER BY t.id, p.id
"""
"""(trace, post) of the posts whose newest answer a call gave."""
_SYMBOL = r"""substring({}.request ->> 'user' from '"side": "(?:long|short)", "token": "([^"]+)"\}}')"""
LET_PASS = f"""
SELECT t.id, s.id FROM llm_traces t
JOIN signals s ON s.correlation_id = ANY(t.correlation_ids) AND s.agent_id = t.agent_id AND s.created_at <= t.ts
 AND s.token = {_SYMBOL.format("t")}
WHERE t.id = ANY(%(traces)s) AND t.purpose = 'generate' AND t.status = 'ok'
  AND NOT EXISTS (
      SELECT FROM llm_traces first WHERE first.correlation_ids @> ARRAY[s.correlation_id] AND first.id < t.id
        AND first.purpose = 'generate' AND first.status = 'ok' AND first.agent_id = s.agent_id
        AND first.ts >= s.created_at AND {_SYMBOL.format("first")} = s.token)
ORDER BY t.id, s.id
"""  # noqa: S608 (constants only)
"""(trace, signal): the first answer about the agent's token after the decision. The data of the prompt has sorted keys
and escaped texts, so that only its own last two keys match."""


class Called(NamedTuple):
    """One token and side that a call led to."""

    token: str
    side: str
    at: datetime
    """When the post was stored, or the signal decided."""
    post_id: str
    """The provider's id of the post; empty for a signal."""
    signal: int | None


@dataclass(slots=True)
class Became:
    """What became of one call, or of several together. Amounts in USD; cash is USDC, counted as one USD."""

    called: list[Called] = field(default_factory=list)
    moves: list[Decimal | None] = field(default_factory=list)
    """Of each of `called`: percent to its side after 24 hours, without costs; None: not over, or no price."""
    signals: set[int] = field(default_factory=set)
    positions: set[int] = field(default_factory=set)
    realised: Decimal = ZERO
    """PnL of closed positions, after fees and profit share."""
    open: Decimal = ZERO
    """PnL of what is open at the newest quotes, before fees."""
    fees: Decimal = ZERO
    """Venue and platform fees of all positions; those of closed ones are in `realised`."""
    funding: Decimal = ZERO
    """Received (positive) or paid; in no PnL."""
    unquoted: set[int] = field(default_factory=set)
    """Open positions without a quote, which are not in `open`."""

    @property
    def pnl(self) -> Decimal:
        """Realised and open PnL together."""
        return self.realised + self.open

    def add(self, other: "Became") -> None:
        """Add the outcome of another call of the same purpose."""
        self.called += other.called
        self.moves += other.moves
        for name in ("signals", "positions", "unquoted"):
            getattr(self, name).update(getattr(other, name))
        for name in ("realised", "open", "fees", "funding"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def figures(self) -> dict[str, Any]:
        """Return calls, hits, mean move and amounts, for `--json` and the API; amounts are decimal strings."""
        price = outcomes(self.moves)
        return {
            "calls": price.calls,
            "known": price.known,
            "right": price.right,
            "mean_pct": price.mean_pct,
            "signals": len(self.signals),
            "positions": len(self.positions),
            "unquoted": len(self.unquoted),
            "realised_usd": plain(usdc(self.realised)),
            "open_usd": plain(usdc(self.open)),
            "fees_usd": plain(usdc(self.fees)),
            "funding_usd": plain(usdc(self.funding)),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the figures with each call and the ids of signals and positions."""
        called = [
            {
                "token": one.token,
                "side": one.side,
                "at": one.at,
                "post_id": one.post_id,
                "signal": one.signal,
                "move_24h_pct": None if move is None else plain(round(move, 4)),
            }
            for one, move in zip(self.called, self.moves, strict=True)
        ]
        return self.figures() | {
            "called": called,
            "signal_ids": sorted(self.signals),
            "position_ids": sorted(self.positions),
        }

    @property
    def text(self) -> str:
        """The outcome in one line; empty where no call came of it."""
        if not self.called:
            return ""
        parts = [
            f"{one.side} {one.token} {'not known yet' if move is None else f'{move:+.2f} %'} after 24 h"
            for one, move in zip(self.called, self.moves, strict=True)
        ]
        if self.positions:
            count = len(self.positions)
            parts.append(
                f"{count} position{'' if count == 1 else 's'}: realised {_signed(self.realised)} USD, open "
                f"{_signed(self.open)} USD, fees {plain(usdc(self.fees))} USD"
            )
        else:
            parts.append("not traded")
        return "; ".join(parts)


def _signed(amount: Decimal) -> str:
    return f"{'+' if amount > 0 else ''}{plain(usdc(amount))}"


def became_of(
    traces: Sequence[int], person: Person = None, posts: Collection[int] | None = None
) -> dict[int, Became]:
    """Return trace -> what became of it, without traces that led to no call, in a fixed number of statements.

    Args:
        traces: ids of `LlmTrace`.
        person: whose posts, signals and positions count; None: all.
        posts: of what the calls read only these posts (ids of `CtPost`); None: all.
    """
    found: defaultdict[int, Became] = defaultdict(Became)
    with connection.cursor() as cursor:
        cursor.execute(READ_POSTS, {"traces": list(traces)})
        rows = cursor.fetchall()
        read: dict[int, int] = {post: trace for trace, post in rows if posts is None or post in posts}
        cursor.execute(LET_PASS, {"traces": list(traces)})
        passed: dict[int, int] = {signal: trace for trace, signal in cursor.fetchall()}
    own = visible(CtPost.objects.filter(pk__in=read), person).order_by("pk")
    for pk, post_id, sides, at in own.values_list("pk", "post_id", "sides", "ingested_at"):
        calls = [Called(token, side, at, post_id, None) for token, side in sorted(sides.items())]
        found[read[pk]].called += calls
    ids = {*passed, *Signal.posts.through.objects.filter(ctpost__in=read).values_list("signal", flat=True)}
    signals = {one.pk: one for one in visible(Signal.objects.filter(pk__in=ids), person).order_by("pk")}
    for pk, trace in passed.items():
        if row := signals.get(pk):
            found[trace].called.append(Called(row.token, row.side, row.created_at, "", pk))
    _add_moves(found.values())
    _add_positions(found, _causes(signals, read, passed), person)
    return dict(found)


def _add_moves(found: Iterable[Became]) -> None:
    rows = list(found)
    known = iter(moves([one[:3] for row in rows for one in row.called]))
    for row in rows:
        row.moves = [next(known) for _ in row.called]


class _Cause(NamedTuple):
    """That a call led to a signal: wholly, or with some of the posts that the signal is based on."""

    trace: int
    signal: int
    weights: list[Decimal]
    """Of the posts of the signal, as the decision gave them."""
    places: list[int]
    """Which of these posts the call read."""


def _add_positions(found: defaultdict[int, Became], causes: Iterable[_Cause], person: Person) -> None:
    """Add signals and their positions to the calls that led to them."""
    by_signal: defaultdict[int, list[_Cause]] = defaultdict(list)
    for cause in causes:
        found[cause.trace].signals.add(cause.signal)
        by_signal[cause.signal].append(cause)
    rows = visible(Position.objects.filter(signal__in=by_signal), person).select_related("entry_order")
    for position in attach(with_unrealised(rows).order_by("pk")):
        for cause in by_signal[position.signal_id or 0]:
            _add(found[cause.trace], position, cause)


def _causes(signals: dict[int, Signal], read: dict[int, int], passed: dict[int, int]) -> Iterator[_Cause]:
    """Yield which call led to which signal; `read` is post -> trace, `passed` signal -> trace."""
    posts: defaultdict[int, list[int]] = defaultdict(list)
    through = Signal.posts.through.objects.filter(signal__in=signals).order_by("ctpost")
    for signal, post in through.values_list("signal", "ctpost"):
        posts[signal].append(post)
    for pk, row in signals.items():
        given = row.risk_model.get("posts", {})
        weights = [Decimal(given.get(str(post), 0)) for post in posts[pk]]
        places: defaultdict[int, list[int]] = defaultdict(list)
        for place, post in enumerate(posts[pk]):
            if post in read:
                places[read[post]].append(place)
        for trace, own in places.items():
            yield _Cause(trace, pk, weights, own)
        if pk in passed:
            yield _Cause(passed[pk], pk, [Decimal(1)], [0])


def _add(row: Became, position: Position, cause: _Cause) -> None:
    """Add the part of a position that belongs to the posts that the call read."""
    unrealised: Decimal | None = position.unrealised  # type: ignore[attr-defined]  # annotated
    closed = position.state == "closed"
    amounts = {
        "realised": position.net if closed else ZERO,
        "open": unrealised or ZERO,
        "fees": position.fees,
        "funding": position.margin.funding if position.margin else ZERO,
    }
    for name, amount in amounts.items():
        parts = split(amount, cause.weights)
        setattr(row, name, getattr(row, name) + sum((parts[place] for place in cause.places), ZERO))
    row.positions.add(position.pk)
    if not closed and unrealised is None:
        row.unquoted.add(position.pk)


def of_post(post: CtPost) -> list[tuple[LlmTrace, Became]]:
    """Return the calls about a post that led to something, with what became of them, of this post only."""
    calls = LlmTrace.objects.filter(correlation_ids__contains=[post.correlation_id]).order_by("pk")
    rows = {call.pk: call for call in calls}
    found = became_of(list(rows), posts=[post.pk])
    return [(rows[pk], became) for pk, became in sorted(found.items())]


BATCH = 5_000
"""Calls that are read at once; a statement takes 65,535 values at most."""


GROUP = ("purpose", "provider", "model", "version")
"""What the outcomes of calls are grouped by; a version without a name is the beginning of its prompt's hash."""


def by_version(traces: QuerySet[LlmTrace]) -> list[dict[str, Any]]:
    """Return what became of the calls of each purpose, provider, model and version of a prompt, most calls first.

    Only groups from which a call came are listed.
    """
    used = traces.order_by().filter(status="ok", purpose__in=(READING, REVIEW))
    keys = {
        pk: (*names, version or digest[:8])
        for pk, *names, version, digest in used.values_list(
            "pk", "purpose", "provider", "model", "prompt_version", "prompt_sha256"
        )
    }
    groups: defaultdict[tuple[str, ...], Became] = defaultdict(Became)
    ids = list(keys)
    for place in range(0, len(ids), BATCH):
        for pk, became in became_of(ids[place : place + BATCH]).items():
            groups[keys[pk]].add(became)
    rows = [dict(zip(GROUP, key, strict=True)) | became.figures() for key, became in groups.items()]
    return sorted(rows, key=lambda row: (-row["calls"], *(row[name] for name in GROUP)))
