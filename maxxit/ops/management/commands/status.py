"""`manage.py status`: scheduled jobs with delay and worker, signals under way, kill switches, pending limits."""

from collections.abc import Iterator
from typing import Any

from maxxit.core.clock import duration_text, iso_utc
from maxxit.core.commands import OpsCommand
from maxxit.reports import progress, status
from maxxit.reports.progress import Progress
from trading import gate
from trading.risk import limits_in_force


class Command(OpsCommand):
    help = (
        "Show each job of the schedule: last run, next run, delay, result and worker. Then the signals under way with "
        "their orders, kill switches and pending limits. Times are UTC."
    )

    def run(self, **options: Any) -> Any:
        jobs = status.jobs()
        rows = [
            (
                job.name,
                job.rhythm,
                job.last_run or "never",
                job.next_run if job.enabled else "off",
                duration_text(job.lag_seconds) if job.lag_seconds else "",
                job.result,
                job.worker,
            )
            for job in jobs
        ]
        self.table(("job", "rhythm", "last run (UTC)", "next run (UTC)", "late", "last pass", "worker"), rows)
        signals = self.signals()
        latched = list(gate.latched())
        for switch in latched:
            self.say(
                f"kill switch, {switch.stops} ({switch.reason}; {switch.pulled_at:%Y-%m-%d %H:%M})", "ERROR"
            )
        waiting = self.waiting()
        return {
            "jobs": [job.as_json() for job in jobs],
            "signals": signals,
            "kill_switches": [
                {
                    "account": switch.account,
                    "level": switch.level,
                    "cause": switch.cause,
                    "reason": switch.reason,
                }
                for switch in latched
            ],
            "waiting_limits": waiting,
        }

    def signals(self) -> list[dict[str, Any]]:
        """Show the signals under way, and return them with those of the last hour."""
        recent = progress.recent()
        under_way = [row for row in recent if row.under_way]
        for row in under_way:
            self.say(progress_text(row))
            for line in detail_lines(row):
                self.say(f"    {line}")
        ended = (
            f"; {len(recent) - len(under_way)} of the last hour are done"
            if len(recent) > len(under_way)
            else ""
        )
        if not under_way:
            self.say(f"no signal is under way{ended}")
        return [row.as_json() for row in recent]

    def waiting(self) -> list[dict[str, str]] | None:
        """Show and return the looser limits that are not in force yet; None where they cannot be read."""
        try:
            waiting = sorted(limits_in_force.waiting_limits().items())
        except limits_in_force.UNREADABLE:
            self.say(
                "limits: cannot be read, so entries are stopped; `manage.py doctor` names the fix", "ERROR"
            )
            return None
        for key, change in waiting:
            self.say(f"pending limit: {key} {change.value} from {change.at:%Y-%m-%d %H:%M} UTC", "WARNING")
        return [
            {"limit": key, "value": str(change.value), "from": iso_utc(change.at)} for key, change in waiting
        ]


def progress_text(row: Progress) -> str:
    """Return one line: the signal and its orders by state."""
    signal = row.signal
    counts = ", ".join(f"{count:,} {progress.LABELS.get(name, name)}" for name, count in row.parts)
    what = f"signal {signal.pk} ({signal.side} {signal.token}, {signal.agent})"
    if not counts:
        return f"{what}: no order is planned yet"
    return f"{what}: {row.orders:,} orders: {counts}; positions: {row.opened:,} opened, {row.closed:,} closed"


def detail_lines(row: Progress) -> Iterator[str]:
    """Yield the queue with pace and estimate, and what stopped orders of the signal."""
    if row.queued:
        yield queue_text(row)
    stopped = [group for group in row.reasons if group.status != "waiting"]
    if stopped:
        yield "stopped: " + ", ".join(
            f"{group.count:,} {group.status} {group.reason}".rstrip() for group in stopped
        )


def queue_text(row: Progress) -> str:
    """Return one line: the places of the waiting orders, the pace, and when they leave or expire."""
    parts = []
    if row.first_place is not None:
        since = f" since {row.waiting_since:%H:%M:%S}" if row.waiting_since else ""
        parts.append(
            f"waiting{since}: numbers {row.first_place:,} to {row.last_place:,} of {row.queue_length:,}"
        )
    parts.append(f"pace {row.pace.last_minute} of {row.pace.per_minute} entries a minute")
    if row.estimate.done_at:
        parts.append(f"{row.estimate.leave:,} leave by about {row.estimate.done_at:%Y-%m-%d %H:%M:%S}")
    if row.estimate.expire:
        parts.append(f"{row.estimate.expire:,} expire at {row.signal.expires_at:%Y-%m-%d %H:%M:%S}")
    return "; ".join(parts)
