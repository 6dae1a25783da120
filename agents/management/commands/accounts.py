"""`manage.py accounts list | add | check`."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents import following
from agents.describe import account_data
from agents.models import CtAccount
from maxxit.core.commands import OpsCommand, by_option, operator


class Command(OpsCommand):
    help = "List, add and check the accounts that agents may follow."
    subcommands = {
        "list": "list the accounts that are known",
        "add": "add accounts, without following them",
        "check": "say of each name whether it is known or could be added, and change nothing",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            parser.add_argument("--search", default="", help="only names that contain this")
            return
        parser.add_argument("accounts", nargs="*", metavar="ACCOUNT", help="user names, with or without @")
        parser.add_argument("--file", type=Path, help="a list of user names, one a line; # begins a comment")
        parser.add_argument("--source", default="", help="the post source that reads new accounts")
        if action == "add":
            by_option(parser)

    def run(self, **options: Any) -> Any:
        if options["action"] == "list":
            rows = CtAccount.objects.filter(x_username__icontains=options["search"].removeprefix("@"))
            data = [account_data(account) for account in rows]
            self.table(
                ("id", "name", "source", "active", "impact factor", "last seen"),
                [
                    (
                        row["id"],
                        row["name"],
                        row["source"],
                        row["active"],
                        row["impact_factor"],
                        row["last_seen_at"],
                    )
                    for row in data
                ],
            )
            return data
        names, source = [*options["accounts"], *_listed(options["file"])], options["source"]
        if not names:
            raise CommandError("name at least one account, or give --file")
        answers = (
            following.check_names(names, source)
            if options["action"] == "check"
            else following.add_accounts(names, source, by=operator(options["by"]))
        )
        return show_answers(self, answers)


def _listed(file: Path | None) -> list[str]:
    """Return the names of a list. Raises CommandError for a file that cannot be read."""
    if file is None:
        return []
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def show_answers(command: OpsCommand, answers: list[following.Answer]) -> list[dict[str, object]]:
    """Print an answer for each name; a refused one makes the command exit with 1 after it printed everything."""
    for answer in answers:
        shown = f"{answer.name}: {answer.outcome.replace('_', ' ')}"
        command.say(
            f"{shown}{f' – {answer.message}' if answer.message else ''}", "" if answer.ok else "WARNING"
        )
    command.exit_code = int(not all(answer.ok or answer.outcome == "unknown" for answer in answers))
    return [answer.as_json() for answer in answers]
