"""`manage.py monitoring`: Prometheus and Alertmanager beside `make up`."""

import contextlib
import signal
from types import FrameType
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.core.errors import MaxxitError
from maxxit.ops import monitoring
from maxxit.ops.supervisor import Supervisor


class Command(BaseCommand):
    help = (
        "Run Prometheus and Alertmanager on this machine with the rules of deploy/monitoring, until Ctrl-C."
    )

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--receiver", default="", metavar="URL", help="webhook that alerts are posted to (default: none)"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until SIGTERM or Ctrl-C."""
        folder = settings.ENV.maxxit_data_dir / "monitoring"
        monitoring.prepare(folder, settings.ENV.web_port, options["receiver"])
        try:
            servers = monitoring.servers(folder)
        except MaxxitError as error:
            raise CommandError(str(error)) from None
        signal.signal(signal.SIGTERM, _exit)
        supervisor = Supervisor(settings.ENV.maxxit_data_dir / "logs", verbose=options["verbosity"] > 1)
        try:
            for server in servers:
                supervisor.start(server)
            supervisor.say(f"alerts and their rules: {monitoring.PROMETHEUS}/alerts")
            supervisor.say(f"alerts that are sent, and silences: {monitoring.ALERTMANAGER}")
            with contextlib.suppress(KeyboardInterrupt):
                supervisor.watch()
        finally:
            supervisor.stop()


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
