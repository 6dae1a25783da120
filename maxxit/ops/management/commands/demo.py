"""`manage.py demo`: load the demo's agents, posts and prices."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.config import profile
from maxxit.core.errors import MaxxitError
from maxxit.embedded.scratch import fast_connection
from maxxit.ops import demo


class Command(BaseCommand):
    help = (
        "Load the demo: agents on paper, invented posts and prices, gates open for paper and the local chain. "
        "Safe to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--write-sample", action="store_true", help="regenerate the candles in config/demo, and stop"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the demo. Refuses outside the demo profile, so that sample prices never mix with real trading."""
        if options["write_sample"]:
            demo.write_sample()
            return
        if profile() != "demo":
            raise CommandError(
                "the demo loads only with MAXXIT_PROFILE=demo, so that it never mixes with real trading"
            )
        try:
            with fast_connection():
                done = demo.load()
        except MaxxitError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("demo: " + ", ".join(f"{count} {what}" for what, count in done.items()) + " added")
