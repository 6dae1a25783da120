"""`manage.py setup`: prepare the database: tables, roles, schedule, admin login, and the demo unless `--no-demo`.

Safe to repeat. `manage.py up` calls it at every start; with docker compose it is the service `setup`.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandParser
from kombu.exceptions import OperationalError

from maxxit.llm import versions
from maxxit.llm.policy import policy
from maxxit.ops import login, migrated
from maxxit.pipeline import release

CANARY = "maxxit.pipeline.tasks.canary"


class Command(BaseCommand):
    help = "Prepare the database: tables, schedule, admin login, demo. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="do not load the demo agents")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run all steps, with one line for each that changed something."""
        migrated.check_database()
        call_command("migrate", verbosity=0, interactive=False)
        call_command("roles", stdout=self.stdout)
        known = get_commands()
        if "sync_schedule" in known:
            call_command("sync_schedule", stdout=self.stdout)
        if release.declare():
            self.stdout.write(
                f"release {release.mine()} is declared: workers of other releases refuse orders"
            )
            for purpose in policy().prompted:  # its prompts can be compared with those of later releases
                versions.store_file(purpose)
        self._login()
        if "demo" in known and not options["no_demo"]:
            call_command("demo", stdout=self.stdout)
        self._first_canary()

    def _first_canary(self) -> None:
        """Send a canary to each queue, so that readiness does not wait for beat's first minute."""
        try:
            current_app.send_task(CANARY, retry=False)
        except OperationalError as error:
            self.stderr.write(f"no canary sent: the broker does not answer: {error}")

    def _login(self) -> None:
        """Create the first administrator. A generated password is kept on a local machine, until it is changed."""
        users, data_dir = get_user_model(), Path(settings.DATA_DIR)
        if users.objects.filter(is_superuser=True).exists():
            known = login.kept(data_dir)
            if known and not users.objects.filter(username=known.name, password=known.hashed).exists():
                login.forget(data_dir)
            return
        name = os.environ.get("MAXXIT_ADMIN_USER", "admin")
        given = os.environ.get("MAXXIT_ADMIN_PASSWORD", "")
        password = given or secrets.token_urlsafe(12)
        made = users.objects.create_superuser(name, password=password)
        if given:
            shown = "from MAXXIT_ADMIN_PASSWORD"
        elif settings.PRODUCTION:
            shown = f"{password}   (shown only once; change it in the admin)"
        else:
            login.keep(data_dir, login.Login(name, password, made.password))
            shown = f"{password}   (again: manage.py login-info)"
        self.stdout.write(f"admin login made: {name}, password {shown}")
