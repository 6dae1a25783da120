"""`manage.py roles`: create the database roles of application and reader, and grant their rights."""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError, connection, transaction
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from maxxit.core.config import variable
from maxxit.embedded import servers
from maxxit.ops import roles

SCRATCH = "SCRATCH_DATABASES"


class Command(BaseCommand):
    """Runs as the owner (DATABASE_OWNER_URL); `manage.py setup` calls it after the migrations."""

    help = "Create the database roles of the application and of readers, and give them their rights. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--application", default=_application(), help="its role (default: the user of DATABASE_URL)"
        )
        parser.add_argument(
            "--scratch-databases",
            action=argparse.BooleanOptionalAction,
            default={"1": True, "0": False}.get(variable(SCRATCH)),
            help="let the application create databases, which previews need where there is no embedded server "
            f"(default: {SCRATCH}, else as it is)",
        )
        parser.add_argument("--reader", default=servers.READER, help=f"default {servers.READER}")

    def handle(self, *_: Any, **options: Any) -> None:
        """Create missing roles and grant their rights in one transaction."""
        application, reader = options["application"], options["reader"]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            (owner,) = cursor.fetchone()
            if owner == application:
                if settings.PRODUCTION:
                    raise CommandError(
                        f"the application would own its tables: create a role {servers.APPLICATION}, name it in "
                        f"DATABASE_URL, and keep {owner} for DATABASE_OWNER_URL"
                    )
                self.stdout.write(f"owner and application are the same role, {owner}: nothing to grant")
                return
            roles.create(cursor, application, _login().get("password", ""))
            roles.create(cursor, reader)
            roles.grant(cursor, application, reader)
            if settings.ENV.database_direct_url:
                _limit(cursor, owner, application)
            if options["scratch_databases"] is not None:
                roles.let_create_databases(cursor, application, options["scratch_databases"])
            conninfo = cursor.connection.info.dsn
            password = cursor.connection.info.password
        if options["scratch_databases"]:
            roles.prepare_template(make_conninfo(conninfo, password=password) if password else conninfo)


def _limit(cursor: Any, owner: str, application: str) -> None:
    """Give the application's role its time limits, which a pooler cannot."""
    try:
        roles.limit(cursor, application, settings.ENV.limits)
    except ProgrammingError as error:
        raise CommandError(
            f"{owner} may not set the time limits of {application} (DATABASE_DIRECT_URL); as who made that role: "
            f"GRANT {application} TO {owner} WITH ADMIN OPTION"
        ) from error


def _login() -> dict[str, str]:
    """The parts of DATABASE_URL."""
    return {name: str(value) for name, value in conninfo_to_dict(settings.ENV.database_url).items()}


def _application() -> str:
    """Return the application's role: the user of DATABASE_URL, or the embedded server's."""
    return servers.APPLICATION if settings.ENV.embedded_postgres else _login().get("user", "")
