"""`manage.py stream`: keep the connections to the price feeds open and store incoming quotes and candles."""

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.errors import MaxxitError
from maxxit.market import quotes
from maxxit.market.stream.run import Stream
from maxxit.market.stream.status import open_bus


class Command(BaseCommand):
    help = "Hold the streaming price connections and store quotes and candles. A second process waits and takes over."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or Ctrl-C; exit within three seconds."""
        try:
            feeds = quotes.open_feeds()
            if not feeds:
                self.stderr.write("config/feeds.yaml names no feed in `order`: there is nothing to stream")
            with open_bus() as bus:
                stream = Stream(bus, feeds)
                stream.sources()  # report invalid settings now, not when the lease is acquired

                def end(_signal: int, _frame: FrameType | None) -> None:
                    stream.stop.set()

                for sent in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(sent, end)
                stream.run()
        except MaxxitError as error:
            raise CommandError(str(error)) from None
