"""`manage.py workers status | start | stop`: single processes of `make up`, and single jobs of the schedule."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django_celery_beat.models import PeriodicTask

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Rejected, Retryable
from maxxit.embedded.processes import up_pid, wait_until
from maxxit.ops.control import Control, Process
from maxxit.pipeline.models import CanaryMark
from maxxit.reports import status

PATIENCE = 15.0
"""Seconds to wait for a process: longer than any grace period of the supervisor."""
AFTER = {"start": "running", "stop": "stopped"}
ELSEWHERE = (
    "`make up` does not run here. Under systemd: `systemctl {action} maxxit-worker@{short}`, with compose: "
    "`docker compose {action} {name}`"
)


class Command(OpsCommand):
    help = (
        "Show, start and stop single processes of `make up`, or single jobs of the schedule. Times are UTC."
    )
    subcommands = {
        "status": "show each process with its PID; with NAME one, and exit code 1 where it does not run",
        "start": "start a stopped process, or switch a job of the schedule on",
        "stop": "stop a process and keep it stopped until `workers start`, or switch a job off",
    }
    epilog = """examples:
  manage.py workers status
  manage.py workers stop worker-llm            its tasks wait in their queue
  manage.py workers stop classify              the job of config/schedule.yaml; what wakes it still does"""

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "name", nargs="?" if action == "status" else None, default="", help="a process or a job"
        )

    def run(self, **options: Any) -> Any:
        name, action = options["name"], options["action"]
        if action == "status":
            return self._status(name)
        job = PeriodicTask.objects.filter(name=name).first()
        return self._switch(job, action) if job else self._ask(name, action)

    def _status(self, name: str) -> Any:
        data_dir = Path(settings.DATA_DIR)
        if name and (job := next((one for one in status.jobs() if one.name == name), None)):
            self.exit_code = int(not job.enabled)
            text = f"last run {job.last_run or 'never'}, on {job.worker or 'no worker yet'}"
            self.say(f"{name}: {'ON' if job.enabled else 'OFF'} ({text})")
            return job.as_json()
        if up_pid(data_dir) is None:
            return self._answers(name)
        found = [one for one in Control(data_dir).read() if name in ("", one.name)]
        if name and not found:
            raise _unknown(name, Control(data_dir).read())
        self.table(
            ("process", "state", "pid", "since (UTC)", "restarts"),
            [
                (one.name, one.state.upper(), one.pid, one.since[:19].replace("T", " "), one.restarts)
                for one in found
            ],
        )
        self.exit_code = int(any(one.state != "running" for one in found)) if name else 0
        return [{"name": one.name, "state": one.state, "pid": one.pid, "since": one.since} for one in found]

    def _answers(self, name: str) -> Any:
        """Show the workers of other machines and containers by their last canary."""
        now = clock.now()
        marks = [mark for mark in CanaryMark.objects.order_by("queue") if name in ("", mark.queue)]
        self.say("`make up` does not run here; the workers that answered last, by queue:")
        ages = [(mark.queue, mark.worker, (now - mark.signed_at).total_seconds()) for mark in marks]
        self.table(
            ("queue", "worker", "answered"),
            [(queue, worker, f"{duration_text(age)} ago") for queue, worker, age in ages],
        )
        return [
            {"queue": queue, "worker": worker, "answered_seconds_ago": round(age)}
            for queue, worker, age in ages
        ]

    def _switch(self, job: PeriodicTask, action: str) -> Any:
        job.enabled = action == "start"
        job.save()  # beat reads the schedule anew
        self.say(f"the job {job.name} is {'on' if job.enabled else 'off'}", "SUCCESS")
        return {"name": job.name, "enabled": job.enabled}

    def _ask(self, name: str, action: str) -> Any:
        data_dir = Path(settings.DATA_DIR)
        control = Control(data_dir)
        if up_pid(data_dir) is None:
            raise Rejected(
                ELSEWHERE.format(action=action, name=name, short=name.removeprefix("worker-")),
                code="not_running",
            )
        known = {one.name: one for one in control.read()}
        if name not in known:
            raise _unknown(name, list(known.values()))
        if not known[name].may_stop:
            raise Rejected(f"{name} serves all other processes: `make down` stops it", code="not_alone")
        control.ask(name, action)

        def done() -> bool:
            return any(one.name == name and one.state == AFTER[action] for one in control.read())

        if not wait_until(done, PATIENCE):
            raise Retryable(f"{name} is not {AFTER[action]} after {PATIENCE:.0f} s: see `workers status`")
        found = next(one for one in control.read() if one.name == name)
        self.say(f"{name}: {found.state.upper()}" + (f" (PID: {found.pid})" if found.pid else ""), "SUCCESS")
        return {"name": name, "state": found.state, "pid": found.pid}


def _unknown(name: str, known: list[Process]) -> Rejected:
    names = ", ".join(one.name for one in known)
    return Rejected(
        f"no process or job {name!r}; processes: {names}; jobs: `manage.py status`", code="no_process"
    )
