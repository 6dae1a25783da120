"""`manage.py sync_schedule`: copy the jobs of config/schedule.yaml into celery-beat's tables."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.errors import Misconfigured
from maxxit.pipeline.sync import sync_schedule


class Command(BaseCommand):
    help = "Add the missing jobs of config/schedule.yaml to celery-beat. Intervals changed in the admin are kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reset", action="store_true", help="reset every job to the file's schedule")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = sync_schedule(reset=options["reset"])
        except Misconfigured as error:
            raise CommandError(str(error)) from error
        self.stdout.write("schedule: " + ", ".join(f"{len(names)} {what}" for what, names in done.items()))
