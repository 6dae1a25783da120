"""Read models of the twins: live against paper, by deployment, venue and token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from django.db import connection

from maxxit.core.money import plain, usdc
from positions.twin.models import TwinDrift, TwinFill
from positions.twin.policy import MEASURES, UNITS

By = Literal["deployment", "venue", "symbol"]

COLUMNS: dict[By, str] = {"deployment": "deployment_id", "venue": "venue", "symbol": "symbol"}
SUMS = """
SELECT {key}, count(*), count(*) FILTER (WHERE outcome IN ('filled', 'partial')),
       count(*) FILTER (WHERE outcome = 'partial'), count(*) FILTER (WHERE outcome = 'missed'),
       count(*) FILTER (WHERE outcome = 'missed' AND purpose = 'open'), count(*) FILTER (WHERE outcome = 'unknown'),
       count(pnl_bps), avg(price_bps), avg(excess_fee_bps), avg(live_seconds), avg(pnl_bps),
       coalesce(sum(live_fee), 0), coalesce(sum(twin_fee), 0), coalesce(sum(live_pnl), 0), coalesce(sum(twin_pnl), 0)
FROM twin_fills WHERE deployment_id = ANY(%(deployments)s) OR %(deployments)s::bigint[] IS NULL
GROUP BY {key} ORDER BY {key}
"""


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """Live against paper, summed over the compared orders of one key. Means are over those that have a value."""

    key: str | int
    orders: int
    filled: int
    """In part or in full."""
    partial: int
    missed: int
    """The twin was filled, the live account got nothing."""
    missed_entries: int
    """Of them entries: positions that only the twin has."""
    unknown: int
    trades: int
    """Closed positions that were compared."""
    price_bps: float | None
    """Mean over orders; positive: live worse."""
    fee_bps: float | None
    latency_seconds: float | None
    pnl_bps: float | None
    """Mean over trades, of the entry's value; positive: live worse."""
    live_fees: Decimal
    """USDC, of what the live account got."""
    twin_fees: Decimal
    live_pnl: Decimal
    """USDC after venue fees, of the trades."""
    twin_pnl: Decimal

    def as_json(self) -> dict[str, Any]:
        means = ("price_bps", "fee_bps", "latency_seconds", "pnl_bps")
        counts = ("key", "orders", "filled", "partial", "missed", "missed_entries", "unknown", "trades")
        sums = ("live_fees", "twin_fees", "live_pnl", "twin_pnl")
        return (
            {name: getattr(self, name) for name in counts}
            | {name: _rounded(getattr(self, name)) for name in means}
            | {name: plain(usdc(getattr(self, name))) for name in sums}
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def figures(by: By = "deployment", deployments: Sequence[int] | None = None) -> list[TwinFigures]:
    """Return the sums of these deployments (None: all) by deployment, venue or token, in one statement."""
    with connection.cursor() as cursor:
        params = {"deployments": None if deployments is None else list(deployments)}
        cursor.execute(SUMS.format(key=COLUMNS[by]), params)
        return [TwinFigures(*row) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class DriftState:
    """Where the test of one measure stands."""

    measure: str
    count: int
    noise: float | None
    alarm: bool
    alarms: int
    run: int
    """Values since the score was last zero."""
    run_mean: float
    score: float

    @property
    def unit(self) -> str:
        """The unit of the values."""
        return UNITS[self.measure]  # type: ignore[index]  # the column's choices

    def as_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure, "unit": self.unit, "count": self.count, "noise": _rounded(self.noise),
            "alarm": self.alarm, "alarms": self.alarms, "run": self.run, "run_mean": _rounded(self.run_mean),
            "score": _rounded(self.score),
        }  # fmt: skip


def drifts(deployments: Iterable[int] | None = None) -> dict[int, list[DriftState]]:
    """Return deployment -> its tests, in the order of `MEASURES`; one statement for all."""
    rows = TwinDrift.objects.all()
    if deployments is not None:
        rows = rows.filter(deployment__in=list(deployments))
    found: dict[int, list[DriftState]] = {}
    for row in sorted(rows, key=lambda row: (row.deployment_id, MEASURES.index(row.measure))):
        state = DriftState(
            row.measure, row.count, row.noise, row.alarm, row.alarms, row.run, row.run_mean, row.score
        )
        found.setdefault(row.deployment_id, []).append(state)
    return found


def alarms() -> dict[str, int]:
    """Return measure -> deployments whose alarm is on, every measure named."""
    counts: dict[str, int] = dict.fromkeys(MEASURES, 0)
    for measure in TwinDrift.objects.filter(alarm=True).values_list("measure", flat=True):
        counts[measure] += 1
    return counts


def newest(deployment: int, limit: int) -> list[TwinFill]:
    """Return the latest compared orders of a deployment, newest first."""
    return list(TwinFill.objects.filter(deployment=deployment).order_by("-at", "-order_id")[:limit])
