"""manage.py sync_schedule: bring config/schedule.yaml into beat's tables."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.errors import Misconfigured
from maxxit.pipeline.sync import sync_schedule


class Command(BaseCommand):
    help = "Add the jobs of config/schedule.yaml that beat does not know yet. Intervals changed in the admin stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reset", action="store_true", help="take every job back to the file's rhythm")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = sync_schedule(reset=options["reset"])
        except Misconfigured as error:
            raise CommandError(str(error)) from error
        self.stdout.write("schedule: " + ", ".join(f"{len(names)} {what}" for what, names in done.items()))
