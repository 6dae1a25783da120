"""Statistics of LLM traces, computed by Postgres."""

from typing import Any

from django.db import models
from django.db.models import Avg, Count, F, Func, Max, Min, Q, QuerySet, Sum

from maxxit.llm.models import LlmTrace


class _Percentile(models.Aggregate):
    """`percentile_cont(fraction) WITHIN GROUP (ORDER BY expression)`."""

    function = "percentile_cont"
    template = "%(function)s(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = models.FloatField()


def traces(**filters: Any) -> QuerySet[LlmTrace]:
    """Filter traces; `since` is a datetime, `correlation_id` any of a call's ids; None and "" match all."""
    since, corr = filters.pop("since", None), filters.pop("correlation_id", None)
    rows = LlmTrace.objects.filter(**{name: value for name, value in filters.items() if value})
    if since is not None:
        rows = rows.filter(ts__gte=since)
    return rows.filter(correlation_ids__contains=[corr]) if corr else rows


def summary(rows: QuerySet[LlmTrace]) -> dict[str, Any]:
    """Return calls, errors, latency, tokens, cost, and the busiest agents, models and purposes."""
    rows = rows.order_by()
    total = rows.aggregate(
        calls=Count("id"),
        errors=Count("id", filter=Q(status="error")),
        repaired=Count("id", filter=Q(repaired=True)),
        avg_ms=Avg("latency_ms"),
        p50_ms=_Percentile("latency_ms", fraction=0.5),
        p95_ms=_Percentile("latency_ms", fraction=0.95),
        prompt_tokens=Sum("prompt_tokens"),
        completion_tokens=Sum("completion_tokens"),
        cost_usd=Sum("cost_usd"),
    )
    total["error_pct"] = round(100 * total["errors"] / total["calls"], 2) if total["calls"] else 0.0
    total["agents"] = _top(rows.exclude(agent_name=""), "agent_name")
    total["models"] = _top(rows, "model")
    total["purposes"] = _top(rows, "purpose")
    return total


def days(rows: QuerySet[LlmTrace]) -> list[dict[str, Any]]:
    """Return per UTC day: calls, errors, average and 95th percentile latency, cost."""
    day = Func(F("ts"), function="date", output_field=models.DateField())
    rows_by_day = (
        rows.order_by()
        .annotate(day=day)
        .values("day")
        .annotate(
            calls=Count("id"),
            errors=Count("id", filter=Q(status="error")),
            avg_ms=Avg("latency_ms"),
            p95_ms=_Percentile("latency_ms", fraction=0.95),
            cost_usd=Sum("cost_usd"),
        )
        .order_by("day")
    )
    return [dict(row) for row in rows_by_day]


PROMPTS = 50
"""Versions of prompts that are compared at most."""


def prompts(rows: QuerySet[LlmTrace]) -> list[dict[str, Any]]:
    """Return the figures of each version of a prompt with each model, by purpose, those used last first.

    A version is its name, or the beginning of its hash in traces that have no name.
    """
    versions = (
        rows.order_by()
        .values("purpose", "prompt_sha256", "prompt_version", "provider", "model")
        .annotate(
            calls=Count("id"),
            errors=Count("id", filter=Q(status="error")),
            repaired=Count("id", filter=Q(repaired=True)),
            avg_ms=Avg("latency_ms"),
            p95_ms=_Percentile("latency_ms", fraction=0.95),
            prompt_tokens=Avg("prompt_tokens"),
            completion_tokens=Avg("completion_tokens"),
            cost_usd=Sum("cost_usd"),
            first=Min("ts"),
            last=Max("ts"),
        )
        .order_by("purpose", "-last", "prompt_sha256", "model")
    )
    return [
        dict(row)
        | {
            "version": row["prompt_version"] or row["prompt_sha256"][:8],
            "error_pct": round(100 * row["errors"] / row["calls"], 2),
            "usd_per_1000": row["cost_usd"] * 1000 / row["calls"],
        }
        for row in versions[:PROMPTS]
    ]


def _top(rows: QuerySet[LlmTrace], field: str, count: int = 5) -> list[dict[str, Any]]:
    busiest = rows.values(name=F(field)).annotate(calls=Count("id"), cost_usd=Sum("cost_usd"))
    return [dict(row) for row in busiest.order_by("-calls", "name")[:count]]
