"""`manage.py status`: scheduled jobs with their delay and worker, latched kill switches, pending limits."""

from typing import Any

from maxxit.core.clock import duration_text, iso_utc
from maxxit.core.commands import OpsCommand
from maxxit.reports import status
from trading import gate, limits_in_force


class Command(OpsCommand):
    help = "Show each job of the schedule: last run, next run, delay, result and worker. Times are UTC."

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
        latched = list(gate.latched())
        for switch in latched:
            self.say(
                f"kill switch, {switch.stops} ({switch.reason}; {switch.pulled_at:%Y-%m-%d %H:%M})", "ERROR"
            )
        waiting = self.waiting()
        return {
            "jobs": [job.as_json() for job in jobs],
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
