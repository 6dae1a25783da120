"""`manage.py restore FILE|--in-place`: restore a backup, or take over a database that Postgres restored.

Trading stays stopped until it is released.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Rejected
from maxxit.core.secret_files import secret
from maxxit.embedded.processes import only_one
from maxxit.embedded.servers import Postgres
from maxxit.ops.backup import make
from maxxit.ops.backup.restore import restore, take_over


class Command(OpsCommand):
    help = (
        "Restore a backup into an empty database and check it. With --in-place the database is one that Postgres or "
        "its provider restored to a moment. Trading is stopped until you release it: docs/backups.md. Exit code 1 if "
        "a check fails."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "file", nargs="?", type=Path, help="a backup, as `manage.py backup list` names it"
        )
        parser.add_argument(
            "--in-place", action="store_true",
            help="restore no file: stop trading in the present database, move its ids ahead, and check it",
        )  # fmt: skip
        parser.add_argument(
            "--files-to", type=Path, metavar="FOLDER",
            help="where configuration and keys are written (default: restored/ of the data folder); generated secrets "
            "go back into the data folder where they are missing",
        )  # fmt: skip

    def run(self, **options: Any) -> Any:
        if (options["file"] is None) != options["in_place"]:
            raise Rejected("give the FILE of a backup, or --in-place", code="bad_option")
        files_to = options["files_to"] or Path(settings.DATA_DIR) / "restored"
        with database_running():
            done = (
                take_over()
                if options["in_place"]
                else restore(options["file"], secret(make.PASSPHRASE), files_to)
            )
        for check in done.checks:
            self.say(
                f"{'ok ' if check.ok else 'BAD'}  {check.name}: {check.detail}",
                "SUCCESS" if check.ok else "ERROR",
            )
        for path in done.files:
            self.say(f"wrote {path}")
        self.say(
            f"restored the state of {done.at}. Entries are stopped and exits are paused: compare with the "
            "venues before you release them (docs/backups.md, After a restore)",
            "WARNING",
        )
        self.exit_code = int(not done.ok)
        return done.as_json()


@contextmanager
def database_running() -> Iterator[None]:
    """Run the embedded Postgres inside this block, unless DATABASE_URL names a server.

    Raises Rejected while `make up` runs.
    """
    if not settings.ENV.embedded_postgres:
        yield
        return
    with only_one(settings.ENV.maxxit_data_dir):
        server = Postgres(settings.ENV.maxxit_data_dir)
        server.start()
        try:
            yield
        finally:
            server.stop()
