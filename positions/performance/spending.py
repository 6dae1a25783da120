"""What models and posts cost, per signal and per trade. The platform pays it: it is shown beside a PnL, never deducted.

Models: the costs that traces recorded (`LlmTrace.cost_usd`), as long as traces are kept (`traces.keep_days` in
config/llm.yaml). Posts: the price per post that the source is configured with; nothing records what each one cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Sum

from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.terms import Purpose
from maxxit.llm.models import LlmSpend
from positions.models import Position
from signals_app.models import CtPost, Signal
from signals_app.policy import policy
from signals_app.sources.x import USD_PER_POST
from trading.models import Order

LONGEST = timedelta(days=31)
OF_SIGNALS = """
WITH subjects AS (
    SELECT s.id AS signal_id, s.agent_id, s.correlation_id FROM signals s
    WHERE s.id = ANY(%(signals)s::bigint[])
    UNION
    SELECT s.id, s.agent_id, t.correlation_id FROM signals s
    JOIN signal_posts x ON x.signal_id = s.id JOIN ct_posts t ON t.id = x.ctpost_id
    WHERE s.id = ANY(%(signals)s::bigint[])
)
SELECT u.signal_id, sum(t.cost_usd / cardinality(t.correlation_ids))
FROM subjects u JOIN llm_traces t ON t.correlation_ids @> ARRAY[u.correlation_id]
WHERE t.agent_name = '' OR t.agent_id = u.agent_id
GROUP BY u.signal_id
"""
"""Each post of a call bears an equal part of its cost. Calls of other agents about the same posts are left to them."""


@dataclass(frozen=True, slots=True)
class Spending:
    """USD spent on models and posts."""

    models_usd: Decimal = ZERO
    posts_usd: Decimal = ZERO

    @property
    def usd(self) -> Decimal:
        """Both together."""
        return self.models_usd + self.posts_usd

    def divided(self, count: int) -> "Spending | None":
        """Return the part of one of `count`; None without any."""
        return Spending(self.models_usd / count, self.posts_usd / count) if count else None

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings."""
        return {
            "models_usd": plain(usdc(self.models_usd)),
            "posts_usd": plain(usdc(self.posts_usd)),
            "usd": plain(usdc(self.usd)),
        }


def prices_of_posts() -> dict[str, Decimal]:
    """Return source -> USD per post read, of the configured sources that charge for posts."""
    return {
        name: Decimal(str(stanza.get("usd_per_post", USD_PER_POST)))
        for name, stanza in policy().ingest.sources.items()
        if stanza.get("adapter") == "x"
    }


def spent_on_signals(signal_ids: Sequence[int]) -> dict[int, Spending]:
    """Return signal -> what the calls about it and its posts cost, and the posts themselves.

    A post behind several signals is counted in full for each of them.
    """
    with connection.cursor() as cursor:
        cursor.execute(OF_SIGNALS, {"signals": list(signal_ids)})
        models = dict(cursor.fetchall())
    posts = _posts_of(signal_ids)
    return {pk: Spending(models.get(pk, ZERO), posts.get(pk, ZERO)) for pk in signal_ids}


def _posts_of(signal_ids: Sequence[int]) -> Mapping[int, Decimal]:
    prices = prices_of_posts()
    if not prices:
        return {}
    counts = CtPost.objects.filter(signals__in=signal_ids, source__in=prices).order_by()
    costs: dict[int, Decimal] = {}
    for pk, source, count in counts.values_list("signals", "source").annotate(Count("pk")):
        costs[pk] = costs.get(pk, ZERO) + prices[source] * count
    return costs


def spent_on_positions(position_ids: Sequence[int]) -> dict[int, Spending]:
    """Return position -> its part of what its signal cost: each position of the signal bears the same."""
    signal_of = dict(Position.objects.filter(pk__in=position_ids).values_list("pk", "signal_id"))
    signals = sorted({pk for pk in signal_of.values() if pk is not None})
    spent = spent_on_signals(signals)
    rows = Position.objects.filter(signal__in=signals).order_by()
    shared_by = dict(rows.values_list("signal_id").annotate(Count("pk")))
    return {
        pk: (spent[signal].divided(shared_by[signal]) if signal in spent else None) or Spending()
        for pk, signal in signal_of.items()
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """What models and posts cost in a span, with all posts and calls that led to no signal."""

    since: datetime
    until: datetime
    total: Spending
    signals: int
    trades: int
    """Entries that were filled."""

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings; None per signal or trade where there was none."""
        parts = {"per_signal": self.total.divided(self.signals), "per_trade": self.total.divided(self.trades)}
        return {
            "since": iso_utc(self.since),
            "until": iso_utc(self.until),
            **self.total.as_json(),
            "signals": self.signals,
            "trades": self.trades,
            **{name: part.as_json() if part else None for name, part in parts.items()},
        }


def spent_by_platform(since: datetime, until: datetime) -> Spent:
    """Return what the platform spent on models and posts in the UTC days of a span, and how many trades came of it.

    Of a longer span the last `LONGEST` are taken: they are counted row by row. The models' costs come from the daily
    budgets, which are kept when traces are deleted.
    """
    since = max(since, until - LONGEST)
    days = {"day__gte": since.astimezone(UTC).date(), "day__lt": until.astimezone(UTC).date()}
    models = LlmSpend.objects.filter(account="", **days).exclude(purpose="").aggregate(usd=Sum("usd"))["usd"]
    posts = ZERO
    for source, price in prices_of_posts().items():
        read = CtPost.objects.filter(source=source, ingested_at__gte=since, ingested_at__lt=until)
        posts += price * read.filter(posted_at__lt=until).count()
    return Spent(
        since,
        until,
        Spending(models or ZERO, posts),
        Signal.objects.filter(created_at__gte=since, created_at__lt=until).count(),
        Order.objects.filter(
            purpose=Purpose.OPEN, reserved_at__gte=since, reserved_at__lt=until, filled_quantity__gt=0
        ).count(),
    )
