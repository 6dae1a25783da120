"""One picture of the platform for a ticket or a shift's end: jobs, checks, orders, positions, holdings, last errors."""

import platform
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from maxxit.core import clock, redact
from maxxit.core.clock import iso_utc
from maxxit.core.money import plain
from maxxit.pipeline import release
from maxxit.pipeline.models import StageRun
from maxxit.reports import checks, dead_letters, status
from maxxit.reports.owners.holdings import holdings
from maxxit.reports.scope import Scope
from positions.models import DayEnd, Position
from positions.performance import day_ends
from positions.states import PositionState
from trading import gate
from trading.models import AccountCheck, Gate, Order
from trading.states import IN_FLIGHT

MOST = 100
"""Rows of one section at most."""
LOOK_BACK = timedelta(hours=24)


def snapshot() -> dict[str, Any]:
    """Return every section, secrets removed. A section that cannot be read says why; the others are complete."""
    now = clock.now()
    sections: dict[str, Any] = {
        "taken_at": iso_utc(now), "host": platform.node(), "release": release.mine(), "declared": release.declared(),
    }  # fmt: skip
    for name, read in SECTIONS.items():
        try:
            sections[name] = read(now)
        except (
            Exception
        ) as error:  # any error of a driver: the snapshot is most wanted when something is down
            sections[name] = {"error": f"cannot be read: {error}".splitlines()[0][:300]}
    redacted: dict[str, Any] = redact.strings(sections)
    return redacted


def _jobs(_: datetime) -> list[dict[str, Any]]:
    return [job.as_json() for job in status.jobs()]


def _checks(_: datetime) -> list[dict[str, Any]]:
    return [check.as_json() for check in checks.everything()]


def _gates(_: datetime) -> dict[str, Any]:
    switches = [
        {"account": row.account, "level": row.level, "cause": row.cause, "reason": row.reason}
        for row in gate.latched()[:MOST]
    ]
    venues = [
        {"venue": row.venue, "dry_run": row.dry_run, "reason": row.reason}
        for row in Gate.objects.order_by("venue")
    ]
    return {"venues": venues, "kill_switches": switches}


def _orders(now: datetime) -> dict[str, Any]:
    rows = Order.objects.filter(state__in=IN_FLIGHT).order_by("pk")
    listed = [
        {
            "order": row.pk, "venue": row.venue, "account": row.account,
            "what": f"{row.purpose} {row.side} {row.symbol}",
            "state": row.state, "quantity": None if row.quantity is None else plain(row.quantity),
            "filled": plain(row.filled_quantity), "age_seconds": int((now - row.created_at).total_seconds()),
        }
        for row in rows[:MOST]
    ]  # fmt: skip
    return {"open": rows.count(), "listed": listed}


def _positions(_: datetime) -> dict[str, Any]:
    rows = Position.objects.exclude(state=PositionState.CLOSED).select_related("deployment").order_by("pk")
    listed = [
        {
            "position": row.pk, "account": row.deployment.account, "what": f"{row.side} {row.symbol}",
            "state": row.state, "quantity": plain(row.quantity - row.closed_quantity),
            "entry_usd": plain(row.entry_price), "stop_usd": plain(row.stop_loss), "target_usd": plain(row.take_profit),
        }
        for row in rows[:MOST]
    ]  # fmt: skip
    return {"open": rows.count(), "listed": listed}


def _reconciliation(_: datetime) -> dict[str, Any]:
    failing = AccountCheck.objects.filter(failures__gt=0).order_by("-failures", "venue", "account")
    return {
        "differences": [row.as_json() for row in holdings(Scope(None, ""), unexplained=True, most=MOST)],
        "failing": [
            {"venue": row.venue, "account": row.account, "kind": row.kind, "failures": row.failures,
             "error": row.last_error, "next": iso_utc(row.due_at)}
            for row in failing[:MOST]
        ],
        "day_ends": [_day_end(row) for row in day_ends.newest()],
    }  # fmt: skip


def _day_end(row: DayEnd) -> dict[str, Any]:
    finished = iso_utc(row.finished_at) if row.finished_at else None
    return {"market": row.market, "day": row.day.isoformat(), "finished_at": finished, "ok": row.ok}


def _errors(now: datetime) -> dict[str, Any]:
    failed = StageRun.objects.exclude(error="").filter(started_at__gt=now - LOOK_BACK).order_by("-started_at")
    return {
        "stages": [
            {
                "stage": row.stage,
                "at": iso_utc(row.started_at),
                "error": row.error.strip().splitlines()[-1][:300],
            }
            for row in failed[:MOST]
        ],
        "dead_letters": [
            {"name": row.name, "at": iso_utc(row.at), "what": row.what, "error": row.last_line}
            for row in dead_letters.dead_letters()[:MOST]
        ],
    }


SECTIONS = {
    "checks": _checks,
    "jobs": _jobs,
    "gates": _gates,
    "orders": _orders,
    "positions": _positions,
    "reconciliation": _reconciliation,
    "errors": _errors,
}
"""Name -> what reads the section."""


def markdown(taken: Mapping[str, Any]) -> str:
    """Return a snapshot as Markdown: the failed checks first, then a list for each section."""
    lines = [
        f"# Snapshot of {taken['taken_at']}",
        "",
        f"Host {taken['host']}, release {taken['release']}.",
        "",
    ]
    found = taken["checks"]
    failed = [check for check in found if not check["ok"]] if isinstance(found, list) else []
    lines += [f"- **BAD** {check['name']}: {check['detail']} (fix: {check['fix']})" for check in failed]
    for name in SECTIONS:
        lines += ["", f"## {name.capitalize()}", ""]
        lines += list(_bullets(taken[name])) or ["none"]
    return "\n".join(lines) + "\n"


def _bullets(value: Any, indent: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list):
                yield f"{indent}- {key}:" + ("" if item else " none")
                yield from _bullets(item, f"{indent}  ")
            else:
                yield f"{indent}- {key}: {item}"
    else:
        for row in value:
            text = ", ".join(f"{key} {item}" for key, item in row.items() if item not in ("", None, []))
            yield f"{indent}- {text}"
