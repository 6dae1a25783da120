"""Compare the second reader of a comparison with the reader in use: agreement, failures, cost, latency, outcomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from django.db.models import Avg, Func, IntegerField, Sum

from maxxit.llm.models import LlmTrace
from signals_app.call_outcomes import Outcomes, moves, outcomes
from signals_app.labels.agreement import Agreement, agreement
from signals_app.models import Comparison, ShadowReading

MOST = 5_000
"""Newest readings that are compared."""
SHOWN = 20
"""Posts on which the readers differ that are listed at most."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The figures of a comparison."""

    posts: int
    """That both have read."""
    failed: int
    """Posts without a usable answer of the second reader."""
    both: int
    """Posts that both call a call."""
    only_active: int
    only_second: int
    sides_differ: int
    """Posts that both call a call, with different tokens or sides."""
    agreement: Agreement
    outcomes: Mapping[str, Outcomes]
    """both (as the reader in use called them), only_active and only_second."""
    active_usd_per_1000: Decimal | None
    """Cost of 1,000 posts, of all calls since the comparison began."""
    second_usd_per_1000: Decimal | None
    active_ms: float | None
    """Mean latency of a call."""
    second_ms: float | None
    differing: Sequence[ShadowReading]
    """The newest posts on which the two differ."""


def compare(row: Comparison) -> Compared:
    """Compare on the newest posts that both have read."""
    readings = _readings(row)
    found = _pairs(readings)
    groups = {
        "both": [(one, active) for one, active, second in found if active and second],
        "only_active": [(one, active) for one, active, second in found if active and not second],
        "only_second": [(one, second) for one, active, second in found if second and not active],
    }
    return Compared(
        posts=len(found),
        failed=len(readings) - len(found),
        both=len(groups["both"]),
        only_active=len(groups["only_active"]),
        only_second=len(groups["only_second"]),
        sides_differ=sum(bool(active and second and active != second) for _, active, second in found),
        agreement=agreement([(active, second) for _, active, second in found]),
        outcomes={name: _outcomes(calls) for name, calls in groups.items()},
        differing=[one for one, active, second in found if active != second][:SHOWN],
        **_costs(row, readings),
    )


Pair = tuple[ShadowReading, dict[str, str], dict[str, str]]


def pairs(row: Comparison) -> list[Pair]:
    """Return the newest posts that both have read, with what the reader in use and the second one called."""
    return _pairs(_readings(row))


def _readings(row: Comparison) -> list[ShadowReading]:
    return list(row.readings.select_related("post__account").order_by("-pk")[:MOST])


def _pairs(readings: Iterable[ShadowReading]) -> list[Pair]:
    return [(one, _active(one), dict(one.sides)) for one in readings if not one.error]


def _active(reading: ShadowReading) -> dict[str, str]:
    """Return what the reader in use called of the post."""
    return dict(reading.post.sides) if reading.post.is_signal_candidate else {}


def _outcomes(calls: Iterable[tuple[ShadowReading, Mapping[str, str]]]) -> Outcomes:
    """Return what became of the calls of (reading, token -> side)."""
    return outcomes(
        moves(
            [
                (token, side, one.post.ingested_at)
                for one, sides in calls
                for token, side in sorted(sides.items())
            ]
        )
    )


def _costs(row: Comparison, readings: Sequence[ShadowReading]) -> dict[str, Any]:
    """Return cost and latency of both readers since the comparison began."""
    traces = LlmTrace.objects.filter(purpose="classify", ts__gte=row.started_at, status="ok")
    if row.ended_at is not None:
        traces = traces.filter(ts__lte=row.ended_at)
    posts = Func("correlation_ids", function="cardinality", output_field=IntegerField())
    total = traces.order_by().aggregate(posts=Sum(posts), usd=Sum("cost_usd"), ms=Avg("latency_ms"))
    weights = sum(1 / one.batch for one in readings)
    second_ms = sum(one.latency_ms / one.batch for one in readings) / weights if weights else None
    spent = sum((one.cost_usd for one in readings), Decimal(0))
    return {
        "active_usd_per_1000": total["usd"] * 1000 / total["posts"] if total["posts"] else None,
        "second_usd_per_1000": spent * 1000 / len(readings) if readings else None,
        "active_ms": total["ms"],
        "second_ms": second_ms,
    }


def as_json(row: Comparison, found: Compared) -> dict[str, Any]:
    """Return a comparison with its figures, for `--json`."""
    figures = asdict(replace(found, differing=())) | {
        "differing": [
            {
                "post_id": one.post.post_id,
                "text": one.post.text,
                "active": _active(one),
                "second": one.sides,
            }
            for one in found.differing
        ]
    }
    return summary(row) | figures


def summary(row: Comparison) -> dict[str, Any]:
    """Return what a comparison is."""
    return {
        "name": row.name,
        "provider": row.provider,
        "prompt": row.prompt or "active",
        "share": f"{row.share.normalize():f}",
        "started_at": row.started_at,
        "started_by": row.started_by,
        "ended_at": row.ended_at,
    }
