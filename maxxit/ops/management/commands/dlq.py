"""`manage.py dlq list | show | redrive`: inspect and redrive dead letters, rows that have exhausted their retries."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports import dead_letters


class Command(OpsCommand):
    help = (
        "List or redrive dead letters: each post, order, delivery, alert and message that used up its retries. "
        "Times are UTC."
    )
    subcommands = {
        "list": "list all dead letters with the last line of their error",
        "show": "show one dead letter with its whole traceback",
        "redrive": "reset the attempts of dead letters, so that they are tried again",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "show":
            parser.add_argument(
                "letter", help="as in `list`: post:17, order:4, delivery:2, alert:3 or message:7"
            )
        if action == "redrive":
            parser.add_argument("letters", nargs="*", help="as in `list`: post:17 order:4 …")
            parser.add_argument("--all", action="store_true", help="every dead letter")

    def run(self, **options: Any) -> Any:
        if options["action"] == "list":
            letters = dead_letters.dead_letters()
            self.table(
                ("letter", "at (UTC)", "tries", "what", "error"),
                [(row.name, row.at, row.attempts, row.what, row.last_line) for row in letters],
            )
            return {"letters": [row.as_json() for row in letters]}
        if options["action"] == "show":
            letter = dead_letters.dead_letter(options["letter"])
            self.say(f"{letter.name}  {letter.what}  {letter.attempts} tries\n{letter.error}")
            return letter.as_json()
        names = [row.name for row in dead_letters.dead_letters()] if options["all"] else options["letters"]
        count = dead_letters.redrive(names)
        self.say(f"{count} redriven", "SUCCESS" if count else "")
        return {"redriven": count}
