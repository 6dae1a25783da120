"""`manage.py monitoring-status`: whether Prometheus reads its targets, and which alerts fire."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.errors import MaxxitError
from maxxit.core.http import client, fetch
from maxxit.ops.monitoring import ALERTMANAGER, PROMETHEUS

SECONDS = 3.0


class Command(OpsCommand):
    help = "Show whether Prometheus reads its targets, and which alerts fire. Exit code 1 where one does not answer."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--prometheus", default=PROMETHEUS, metavar="URL", help=f"(default {PROMETHEUS})")
        parser.add_argument(
            "--alertmanager", default=ALERTMANAGER, metavar="URL", help=f"(default {ALERTMANAGER})"
        )

    def run(self, **options: Any) -> Any:
        targets = self._ask(options["prometheus"], "/api/v1/targets?state=active", "Prometheus")
        alerts = self._ask(options["alertmanager"], "/api/v2/alerts?active=true", "Alertmanager")
        self.exit_code = int(targets is None or alerts is None)
        rows = [
            {"job": one["labels"]["job"], "address": one["scrapeUrl"], "up": one["health"] == "up",
             "error": one["lastError"]}
            for one in (targets or {"data": {"activeTargets": []}})["data"]["activeTargets"]
        ]  # fmt: skip
        for row in rows:
            state, colour = ("UP", "SUCCESS") if row["up"] else ("DOWN", "ERROR")
            self.say(f"{state:<5} {row['job']}  {row['address']}  {row['error']}".rstrip(), colour)
            self.exit_code = self.exit_code or int(not row["up"])
        firing = [
            {"alert": one["labels"]["alertname"], "severity": one["labels"].get("severity", ""),
             "since": one["startsAt"], "summary": one["annotations"].get("summary", "")}
            for one in alerts or []
        ]  # fmt: skip
        for alert in firing:
            self.say(
                f"{alert['alert']} ({alert['severity']}) since {alert['since'][:19]}: {alert['summary']}",
                "WARNING",
            )
        if alerts == []:
            self.say("no alert fires", "SUCCESS")
        return {
            "targets": rows,
            "alerts": firing,
            "answers": {"prometheus": targets is not None, "alertmanager": alerts is not None},
        }

    def _ask(self, address: str, path: str, name: str) -> Any:
        try:
            with client(address, timeout=SECONDS) as http:
                answer = fetch(http, "GET", path).json()
        except (MaxxitError, ValueError) as error:
            self.say(f"{name} does not answer at {address} (`make monitoring` starts it): {error}", "ERROR")
            return None
        self.say(f"{name} answers at {address}")
        return answer
