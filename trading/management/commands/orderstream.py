"""`manage.py orderstream`: listen to what venues say of orders, and wake their settlement at once."""

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.errors import MaxxitError
from maxxit.market.stream.lease import Lease
from maxxit.market.stream.status import open_bus
from trading.venues.order_streams import OrderStreams

LEADER = "maxxit:orderstream:leader"


class Command(BaseCommand):
    help = (
        "Listen to the order streams of venues. A second process waits and takes over. Needs the private key."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or Ctrl-C."""
        streams = OrderStreams()

        def end(_signal: int, _frame: FrameType | None) -> None:
            streams.stop.set()

        for sent in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sent, end)
        try:
            with open_bus() as bus:
                streams.run(Lease(bus, LEADER))
        except MaxxitError as error:
            raise CommandError(str(error)) from None
