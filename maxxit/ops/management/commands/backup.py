"""`manage.py backup | backup list | backup drill`: make, list and test backups."""

from pathlib import Path
from typing import Any, get_args

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.core.commands import OpsCommand
from maxxit.ops.backup import folder, make
from maxxit.ops.backup.drill import drill
from maxxit.reports.backup_policy import Part

MEGABYTE = 1_000_000


class Command(OpsCommand):
    help = "Make, list and test backups of the database, the configuration and the keys. Times are UTC."
    bare = "makes a backup"
    subcommands = {
        "list": "list the backups of a folder, newest first",
        "drill": "restore a backup into a database that is thrown away, and check it; exit code 1 if a check fails",
    }
    epilog = """examples:
  manage.py backup --to /mnt/backups
  manage.py backup --include config,keys       also files of keys that variables name
  manage.py backup drill                       the newest one"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "drill":
            parser.add_argument("file", nargs="?", type=Path, help="a backup (default: the newest one)")
        parser.add_argument(
            "--to", type=Path, metavar="FOLDER", help=f"the folder of the backups (default: {folder.FOLDER})"
        )
        if action:
            return
        parser.add_argument(
            "--include", type=part_names, metavar="PARTS",
            help=f"besides the database: {', '.join(get_args(Part))}, with commas, or none "
            "(default: config/backups.yaml)",
        )  # fmt: skip
        parser.add_argument(
            "--unencrypted",
            action="store_true",
            help="without a passphrase: leaves .env out, and is refused with keys",
        )

    def run(self, **options: Any) -> Any:
        if options.get("action") == "list":
            return self._list(options)
        if options.get("action") == "drill":
            return self._drill(options)
        made = make.back_up(options["to"], options["include"], encrypted=not options["unencrypted"])
        rows = sum(count for count, _ in made.facts["rows"].values())
        self.say(
            f"wrote {made.path}: {made.bytes / MEGABYTE:.1f} MB, {rows:,} rows of money, {len(made.files)} files, "
            f"in {made.seconds:.1f} s",
            "SUCCESS",
        )
        for name in made.left_out:
            self.say(f"left out {name}: it holds secrets, and this backup is not encrypted", "WARNING")
        for path in made.deleted:
            self.say(f"deleted {path.name}, which config/backups.yaml no longer keeps")
        return made.as_json()

    def _list(self, options: dict[str, Any]) -> Any:
        found = folder.backups(folder.configured(options["to"]))
        now = clock.now()
        self.table(
            ("backup", "at (UTC)", "age", "MB"),
            [
                (
                    one.path.name,
                    one.at,
                    duration_text((now - one.at).total_seconds()),
                    f"{one.bytes / MEGABYTE:.1f}",
                )
                for one in found
            ],
        )
        return [one.as_json() for one in found]

    def _drill(self, options: dict[str, Any]) -> Any:
        done = drill(options["file"], options["to"])
        for check in done.checks:
            self.say(
                f"{'ok ' if check.ok else 'BAD'}  {check.name}: {check.detail}",
                "SUCCESS" if check.ok else "ERROR",
            )
        self.exit_code = int(bool(done.failed))
        self.say(f"restored {done.path.name} and checked it in {done.seconds:.1f} s")
        return done.as_json()


def part_names(text: str) -> list[str]:
    """argparse type: parts with commas; `none` for the database alone."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    if wrong := set(names) - set(get_args(Part)):
        raise ValueError(f"no part {', '.join(sorted(wrong))}: choose among {', '.join(get_args(Part))}")
    return names
