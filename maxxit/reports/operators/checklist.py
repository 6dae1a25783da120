"""The operator's day (checklist C59): morning, trading hours, end of day; each item with a tick that is read live."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db.models import Q

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.llm import statistics
from maxxit.pipeline.models import StageRun
from maxxit.reports import dead_letters, status
from maxxit.reports.operators import health, limits
from positions.exits import pauses
from positions.models import DailySummary
from trading import gate
from trading.models import KillSwitch, Order
from trading.states import IN_FLIGHT

STUCK = timedelta(minutes=5)
"""How long an order may be in flight in trading hours before a person looks."""
NEARLY_USED_PCT = 80
MODEL_ERRORS_PCT = 10


@dataclass(frozen=True, slots=True)
class Tick:
    """The live state of one item."""

    item: str
    ok: bool
    detail: str
    page: str
    """URL name of the page that shows more; empty where there is none."""
    command: str
    """The command that shows the same."""

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def checklist() -> dict[str, list[Tick]]:
    """Return part of the day -> items. An item that cannot be read is not ticked and says why."""
    facts = Facts(cache(health.read_health), cache(_model_calls_of_a_day), cache(status.jobs))
    return {part: [_tick(facts, *item) for item in items] for part, items in ITEMS.items()}


@dataclass(frozen=True, slots=True)
class Facts:
    """What several items share, each read once when it is first asked for."""

    health: Callable[[], health.Health]
    model_calls: Callable[[], dict[str, Any]]
    jobs: Callable[[], list[status.Job]]


Probe = Callable[[Facts], tuple[bool, str]]
Item = tuple[str, str, str, Probe]


def _tick(facts: Facts, item: str, page: str, command: str, probe: Probe) -> Tick:
    try:
        ok, detail = probe(facts)
    except Exception as error:  # any error of a driver: the item is open, the others are shown
        ok, detail = False, f"cannot be read: {error}".strip().splitlines()[0][:200]
    return Tick(item, ok, detail, page, command)


def _model_calls_of_a_day() -> dict[str, Any]:
    return statistics.summary(statistics.traces(since=clock.now() - timedelta(days=1)))


def _health(facts: Facts) -> tuple[bool, str]:
    read = facts.health()
    return read.ok, read.headline


def _last_day(_: Facts) -> tuple[bool, str]:
    since = clock.now() - timedelta(days=1)
    names = failed_stages(since)
    return not names, f"errors in: {', '.join(names)}" if names else "no pass of a stage failed in 24 hours"


def failed_stages(since: datetime) -> list[str]:
    """Return the stages of which a pass failed since then; the index of failed passes alone is read."""
    failed = StageRun.objects.filter(~Q(error=""), started_at__gt=since)
    return list(failed.order_by("stage").values_list("stage", flat=True).distinct())


def _model_calls(facts: Facts) -> tuple[bool, str]:
    figures = facts.model_calls()
    text = f"{figures['calls']} calls in 24 hours, {figures['error_pct']} % failed, {figures['cost_usd'] or 0:.2f} USD"
    return figures["error_pct"] <= MODEL_ERRORS_PCT, text


def _dead_letters(_: Facts) -> tuple[bool, str]:
    dead = dead_letters.numbers()
    return not dead, ", ".join(f"{number} {kind}" for kind, number in dead.items()) or "none"


def _jobs(facts: Facts) -> tuple[bool, str]:
    late = [job.name for job in facts.jobs() if job.enabled and job.lag_seconds > health.LATE.total_seconds()]
    return not late, f"late: {', '.join(late)}" if late else "all on time"


def _stops(_: Facts) -> tuple[bool, str]:
    level = gate.kill_level()
    paused = pauses.current_pause()
    texts = [f"kill switch: {level}" if level else "", f"exits: {paused.reason}" if paused else ""]
    return not (level or paused), "; ".join(text for text in texts if text) or "nothing is stopped"


def _of(name: str) -> Probe:
    """Return the probe of one check of the page Health."""

    def probe(facts: Facts) -> tuple[bool, str]:
        found = [
            check for section in facts.health().sections for check in section.checks if check.name == name
        ]
        if not found:
            raise LookupError(f"the check {name} did not run")
        return found[0].ok, found[0].detail

    return probe


def _orders(_: Facts) -> tuple[bool, str]:
    old = Q(state__in=IN_FLIGHT, reserved_at__lt=clock.now() - STUCK) | Q(state="unknown")
    number = Order.objects.filter(old).count()
    limit = duration_text(STUCK.total_seconds())
    return not number, f"{number} unknown, or under way for more than {limit}" if number else "none is stuck"


def _limits(_: Facts) -> tuple[bool, str]:
    read = limits.read_limits()
    if read.problem:
        return False, read.problem
    near = [f"{row.key} {row.used_pct} %" for row in read.rows if (row.used_pct or 0) >= NEARLY_USED_PCT]
    return not near, ", ".join(near[:5]) or f"none is used to {NEARLY_USED_PCT} %"


def _reconciled(facts: Facts) -> tuple[bool, str]:
    """Judge the last reconciliations: on time, without an error, and no account stopped for a difference."""
    stopped = KillSwitch.objects.filter(cause="ledger_drift", released_at=None).count()
    if stopped:
        return False, f"{stopped} kill switches are latched because ledger and venue differ"
    job = next((job for job in facts.jobs() if job.task == "trading.tasks.reconcile"), None)
    if job is None or job.last_run is None:
        return False, "the job reconcile has not run yet"
    late = job.lag_seconds > health.LATE.total_seconds()
    return (
        not late,
        f"last compared {job.last_run:%Y-%m-%d %H:%M:%S} UTC, no account is stopped for a difference",
    )


def _yesterday(_: Facts) -> tuple[bool, str]:
    day = (clock.now() - timedelta(days=1)).date()
    row = DailySummary.objects.filter(report_date=day, deployment=None).first()
    if row is None:
        return False, f"no summary of {day} is stored"
    return True, f"{day}: {row.total_pnl_usd:+,.2f} USD, {row.num_trades} trades closed"


ITEMS: dict[str, tuple[Item, ...]] = {
    "Morning": (
        ("Health is green", "operator-health", "doctor", _health),
        ("The night's passes ended without an error", "operator-health", "status", _last_day),
        ("Model calls of the night succeeded", "operator-models", "llm summary --since 24h", _model_calls),
        ("No dead letters", "operator-health", "dlq list", _dead_letters),
        ("Yesterday's summary is stored", "", "pnl today", _yesterday),
    ),
    "Trading hours": (
        ("Every job is on time", "operator-health", "status", _jobs),
        ("Quotes are fresh", "market", "doctor", _of("feeds")),
        ("Nothing is stopped", "stop", "status", _stops),
        ("No order is stuck", "operator-transactions", "trades", _orders),
        ("No limit is nearly used up", "operator-limits", "limits list", _limits),
    ),
    "End of day": (
        ("Ledger and venues agree", "operator-reconciliation", "reconcile", _reconciled),
        ("Positions and ledger agree", "operator-health", "doctor", _of("books")),
        ("Fees are collected", "", "billing list", _of("billing")),
        (
            "Model calls of the day are within budget",
            "operator-models",
            "llm summary --since 24h",
            _model_calls,
        ),
    ),
}
"""Part of the day -> (item, URL name, command, probe)."""
