"""Attribution: the results of closed positions by agent, deployment, author, token, venue, side, hour, day and more.

Each list of parts adds up to the total of the same deployments and span, to the USDC base unit: a trade on posts of
several authors is divided among them by the shares that the decision gave their posts. Parts are read from `pnl_parts`
plus the positions that closed since the roll-up, in one statement, so they are current. Open positions are not in them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

from django.db import connection

from agents.models import Agent, CtAccount, Deployment
from maxxit.core.money import ZERO, plain, usdc
from positions.performance.roll_up import BEGINNING, watermark
from positions.performance.splitting import CHOSEN, MEASURES, SUMS, split_into_parts

Dimension = Literal[
    "total", "agent", "deployment", "author", "token", "venue", "side", "exit_reason", "hour", "day", "posts"
]
"""`hour` is the UTC hour of the entry, `day` the UTC day of the close, `posts` with or without them; trades without
posts have the author ""."""
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
BY_DAY = frozenset({"total", "day", "agent", "deployment", "venue"})
"""What is read from the stored days of deployments for a span; other dimensions are read from its positions."""
END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Part:
    """Results of the closed positions of one key. Amounts in USDC, those named so in USD."""

    key: str
    label: str = ""
    """The key for people: name of the agent, account of the deployment, author."""
    closed: Decimal = ZERO
    """Closed positions; a position of several authors counts for each by his share, so that these add up too."""
    winners: Decimal = ZERO
    """Of them those that earned after all costs: fees and profit share."""
    trades: Decimal = ZERO
    """Closed positions, each as one, whatever the share of an author: those of authors do not add up."""
    won: Decimal = ZERO
    """PnL of the winners after all costs."""
    lost: Decimal = ZERO
    """PnL of the others after all costs, zero or negative."""
    venue_fees: Decimal = ZERO
    platform_fees: Decimal = ZERO
    profit_share: Decimal = ZERO
    gas_usd: Decimal = ZERO
    """Paid by the platform; in no PnL."""
    slippage_usd: Decimal = ZERO
    """Lost (positive) between the quotes that the decisions used and the fills, entries and exits; in the PnL."""
    turnover_usd: Decimal = ZERO
    """Traded, entries and exits."""
    held_seconds: Decimal = ZERO
    """From entry to close, of all positions together."""

    @property
    def net(self) -> Decimal:
        """PnL after all costs."""
        return self.won + self.lost

    @property
    def realised(self) -> Decimal:
        """PnL after fees, before the profit share: what `Position.realised_pnl` sums to."""
        return self.net + self.profit_share

    @property
    def fees(self) -> Decimal:
        """Venue fees and platform fees."""
        return self.venue_fees + self.platform_fees

    @property
    def costs(self) -> Decimal:
        """Fees and profit share."""
        return self.fees + self.profit_share

    @property
    def gross(self) -> Decimal:
        """PnL before fees and profit share."""
        return self.realised + self.fees

    @property
    def win_rate(self) -> Decimal | None:
        """Winners as a fraction of the closed positions; None without any."""
        return self.winners / self.closed if self.closed else None

    def __add__(self, other: "Part") -> "Part":
        """Return the sums of both under the key of the first."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in MEASURES}
        return Part(self.key, self.label, **sums)

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings."""
        values = {name: getattr(self, name) for name in (*MEASURES, "net", "realised", "fees", "gross")}
        shown = {name: plain(usdc(value)) for name, value in values.items()}
        rate = self.win_rate
        return {"key": self.key, "label": self.label, **shown} | {
            "trades": int(self.trades),
            "win_rate": None if rate is None else plain(rate.quantize(Decimal("0.0001"))),
        }


assert [field.name for field in fields(Part)] == ["key", "label", *MEASURES]  # noqa: S101 (rows become parts by place)


def attribution(
    dimension: Dimension,
    scope: Sequence[int] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Part]:
    """Return the parts of one dimension, days and hours in order, all others with the highest PnL first.

    Args:
        scope: ids of deployments; None: the whole platform.
        since: positions that closed at this moment or later; None: all.
        until: positions that closed before this moment; None: all.
    """
    return breakdown([dimension], scope, since, until)[dimension]


def total(
    scope: Sequence[int] | None = None, since: datetime | None = None, until: datetime | None = None
) -> Part:
    """Return the results of all closed positions of these deployments and this span."""
    parts = attribution("total", scope, since, until)
    return parts[0] if parts else Part("")


def breakdown(
    dimensions: Collection[Dimension],
    scope: Sequence[int] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[Dimension, list[Part]]:
    """Return `attribution` of several dimensions, read together."""
    rows: dict[Dimension, list[tuple[Any, ...]]] = {dimension: [] for dimension in dimensions}
    if scope is None or (since is None and until is None):
        groups = [(list(dimensions), True)]
    else:
        groups = [
            ([name for name in dimensions if name in BY_DAY], True),
            ([name for name in dimensions if name not in BY_DAY], False),
        ]
    for names, stored in groups:
        for dimension, *row in _read(names, scope, since, until, stored) if names else ():
            rows[dimension].append(tuple(row))
    return {dimension: _ordered(dimension, of_dimension) for dimension, of_dimension in rows.items()}


def _read(
    dimensions: Sequence[str],
    scope: Sequence[int] | None,
    since: datetime | None,
    until: datetime | None,
    stored: bool,
) -> list[tuple[Any, ...]]:
    """Read rows (dimension, key, *MEASURES)."""
    with connection.cursor() as cursor:
        cursor.execute(*statement(dimensions, scope, since, until, stored=stored))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def statement(
    dimensions: Sequence[str],
    scope: Sequence[int] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    stored: bool = True,
) -> tuple[str, dict[str, Any]]:
    """Return the statement that reads parts, and its parameters; without `stored` from the span's positions alone.

    The stored parts hold what closed before the watermark. Of a span they give its whole days. A roll-up may move the
    watermark between this look at it and the statement, so the statement compares with the row itself; the earlier
    value only lets the planner know how few positions have closed since.
    """
    span = _Span(since or BEGINNING, until or END, watermark())
    conditions = span.outside() if stored else ["p.closed_at >= %(since)s AND p.closed_at < %(until)s"]
    owned = "" if scope is None else " AND p.deployment_id = ANY(%(scope)s::bigint[])"
    chosen = "UNION ALL".join(CHOSEN.format(condition=condition + owned) for condition in conditions)
    rows = [f"SELECT dimension, key, {', '.join(MEASURES)} FROM split"]  # noqa: S608 (constants only)
    if stored:
        rows += _stored(dimensions, since is None and until is None, scope)
    return (
        "WITH mark AS (SELECT coalesce((SELECT until FROM pnl_watermarks), %(beginning)s) AS until), "  # noqa: S608
        f"{split_into_parts(chosen, dimensions)} "
        f"SELECT dimension, key, {SUMS} FROM ({' UNION ALL '.join(rows)}) AS part GROUP BY dimension, key",
        span.params() | {"scope": None if scope is None else list(scope), "dimensions": list(dimensions)},
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """A span of closing times, and what of it the stored days hold."""

    since: datetime
    until: datetime
    rolled_up: datetime
    """The watermark a moment ago; it only moves forward."""

    @property
    def first(self) -> datetime:
        """The first midnight in the span."""
        midnight = _midnight(self.since)
        return midnight if midnight == self.since else midnight + timedelta(days=1)

    @property
    def last(self) -> datetime:
        """The last midnight of the span, at which its last day begins; not before `first`."""
        return max(_midnight(self.until), self.first)

    def outside(self) -> list[str]:
        """Return the conditions of the positions of the span that no stored day holds; each meets one of them at most.

        Before the first whole day; after the watermark; and on the last day, where the span ends before the watermark.
        """
        return [
            "p.closed_at >= %(since)s AND p.closed_at < least(%(first)s::timestamptz, %(until)s::timestamptz)",
            "p.closed_at >= %(after)s AND p.closed_at < %(until)s AND p.closed_at >= (SELECT until FROM mark)",
            "p.closed_at >= %(last)s AND p.closed_at < %(until)s AND %(until)s < (SELECT until FROM mark)",
        ]

    def params(self) -> dict[str, Any]:
        """The parameters of the statement."""
        return {
            "since": self.since,
            "until": self.until,
            "first": self.first,
            "last": self.last,
            "first_day": self.first.date().isoformat(),
            "last_day": self.last.date().isoformat(),
            "after": max(self.first, self.rolled_up),
            "beginning": BEGINNING,
        }


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(0), tzinfo=UTC)


OF_DEPLOYMENTS = {"deployment": "d.id::text", "agent": "d.agent_id::text", "venue": "a.venue"}
LAST_DAY_ENDED = "%(until)s >= (SELECT until FROM mark)"
OF_DAYS = (
    "x.dimension = 'day' AND x.key >= %(first_day)s::text "
    f"AND (x.key < %(last_day)s::text OR {LAST_DAY_ENDED})"
)
"""A deployment's rows of the whole days of a span. What of the last day is stored counts where the span has it all."""


def _stored(dimensions: Sequence[str], whole: bool, scope: Sequence[int] | None) -> Iterator[str]:
    """Yield the statements that read stored parts: those of a dimension itself, or the days of the span."""
    sums = ", ".join(f"x.{name}" for name in MEASURES)
    rows = "x.deployment_id IS NULL" if scope is None else "x.deployment_id = ANY(%(scope)s::bigint[])"
    own = f"x.dimension = ANY(%(dimensions)s) AND {rows} AND x.day IS NULL"
    if not whole and scope is None:
        own = (
            f"x.dimension = ANY(%(dimensions)s) AND {rows} AND x.day >= %(first_day)s::date "
            f"AND (x.day < %(last_day)s::date OR {LAST_DAY_ENDED})"
        )
    if whole or scope is None:
        yield f"SELECT x.dimension, x.key, {sums} FROM pnl_parts x WHERE {own}"  # noqa: S608
    else:
        of_days = f"FROM pnl_parts x WHERE {OF_DAYS} AND x.day IS NULL AND {rows}"
        for dimension, key in (("total", "''"), ("day", "x.key")):
            if dimension in dimensions:
                yield f"SELECT '{dimension}', {key}, {sums} {of_days}"
    condition = "x.dimension = 'total'" if whole else OF_DAYS
    owned = "true" if scope is None else rows
    for dimension, key in OF_DEPLOYMENTS.items():
        if dimension in dimensions:
            yield (
                f"SELECT '{dimension}', {key}, {sums} "  # noqa: S608
                "FROM agent_deployments d JOIN agents a ON a.id = d.agent_id "
                f"JOIN pnl_parts x ON x.deployment_id = d.id WHERE {condition} AND x.day IS NULL AND {owned}"
            )


def _ordered(dimension: Dimension, rows: Sequence[tuple[Any, ...]]) -> list[Part]:
    labels = _labels(dimension, [row[0] for row in rows])
    parts = [Part(row[0], labels.get(row[0], row[0]), *map(Decimal, row[1:])) for row in rows]
    if dimension in ("day", "hour"):
        return sorted(parts, key=lambda part: part.key)
    return sorted(parts, key=lambda part: (-part.net, part.key))


def _labels(dimension: Dimension, keys: Sequence[str]) -> dict[str, str]:
    """Return key -> what people call it, where that differs."""
    ids = [key for key in keys if key.isdecimal()]
    if dimension == "agent":
        return {str(pk): name for pk, name in Agent.objects.filter(pk__in=ids).values_list("pk", "name")}
    if dimension == "author":
        names = CtAccount.objects.filter(pk__in=ids).values_list("pk", "x_username")
        return {"": "no post"} | {str(pk): f"@{name}" for pk, name in names}
    if dimension == "deployment":
        rows = Deployment.objects.filter(pk__in=ids).values_list("pk", "agent__name", "account")
        return {str(pk): f"{agent} on {account}" for pk, agent, account in rows}
    return {}
