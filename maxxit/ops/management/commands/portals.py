"""`manage.py portals`: every address of this machine, and whether it answers."""

import socket
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from maxxit.core.commands import OpsCommand
from maxxit.ops import local, monitoring

SECONDS = 1.0


class Command(OpsCommand):
    help = "Show every address, what it shows and whether it answers now. Exits with 1 where a page does not."

    def run(self, **options: Any) -> Any:
        pages = local.addresses(settings.ENV)
        optional = {
            monitoring.PROMETHEUS: "Prometheus: metrics and alert rules (`make monitoring`)",
            monitoring.ALERTMANAGER: "Alertmanager: alerts and silences (`make monitoring`)",
        }
        rows = [
            {"address": address, "what": what, "answers": answers(address)}
            for address, what in (pages | optional).items()
        ]
        wide = max(len(str(row["address"])) for row in rows)
        for row in rows:
            state, colour = ("answers", "SUCCESS") if row["answers"] else ("no answer", "ERROR")
            self.say(f"{row['address']:<{wide}}  {state:<9}  {row['what']}", colour)
        self.exit_code = int(not all(row["answers"] for row in rows if row["address"] in pages))
        return rows


def answers(address: str) -> bool:
    """Return whether something accepts connections there."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=SECONDS):
            return True
    except OSError:
        return False
