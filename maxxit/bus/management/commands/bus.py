"""`manage.py bus run | status | rewind`: relays of events to other systems, and listeners."""

import signal
import threading
from types import FrameType
from typing import Any

from django.core.management.base import CommandParser

from maxxit.bus import status
from maxxit.bus.policy import policy
from maxxit.bus.run import workers
from maxxit.core.commands import OpsCommand, whole


class Command(OpsCommand):
    help = "Relay events to other systems (Redis Streams, Kafka, JSON lines) and run event listeners. Times are UTC."
    subcommands = {
        "run": "run the relays and listeners of config/bus.yaml until SIGTERM or Ctrl-C; a second process waits",
        "status": "show each relay and listener: position, events that wait, newest error",
        "rewind": "set the position of a relay or listener, to publish events again or to skip some",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "rewind":
            parser.add_argument("name", help="as in `status`: redis, or listener:log for a listener")
            parser.add_argument(
                "--after",
                type=whole,
                required=True,
                metavar="ID",
                help="the next event is the one after this",
            )

    def run(self, **options: Any) -> Any:
        if options["action"] == "run":
            return self._run()
        if options["action"] == "rewind":
            row = status.rewind(options["name"], options["after"])
            self.say(f"{row.name} goes on after event {row.position}", "SUCCESS")
            return row.as_json()
        rows = status.status()
        self.table(
            ("name", "position", "waiting", "sent", "refused", "updated (UTC)", "error"),
            [
                (one.name, one.position, one.waiting, one.sent, one.refused, one.updated_at, one.last_error)
                for one in rows
            ],
        )
        return {"relays": [one.as_json() for one in rows]}

    def _run(self) -> Any:
        stop = threading.Event()

        def end(_signal: int, _frame: FrameType | None) -> None:
            stop.set()

        threads = workers(policy(), stop)
        if not threads:
            self.say("config/bus.yaml names no relay and no listener: there is nothing to run")
            return {"ran": []}
        for sent in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sent, end)
        for thread in threads:
            thread.start()
        self.say(f"running {', '.join(thread.name for thread in threads)}")
        self.stdout.flush()
        stop.wait()
        for thread in threads:
            thread.join(timeout=5)
        return {"ran": [thread.name for thread in threads]}
