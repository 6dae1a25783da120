"""`manage.py dlq list | show | redrive`: what failed too often and waits for a person."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports import dead_letters


class Command(OpsCommand):
    help = "List or redrive dead letters: each post, order, delivery and alert that used up its retries. Times are UTC."
    subcommands = {
        "list": "all of them, with the last line of their error",
        "show": "one of them with its whole traceback",
        "redrive": "give them all their tries again",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "show":
            parser.add_argument("letter", help="as in `list`: post:17, order:4, delivery:2 or alert:3")
        if action == "redrive":
            parser.add_argument("letters", nargs="*", help="as in `list`: post:17 order:4 …")
            parser.add_argument("--all", action="store_true", help="every one of them")

    def run(self, **options: Any) -> Any:
        if options["action"] == "list":
            found = dead_letters.letters()
            self.table(
                ("letter", "at (UTC)", "tries", "what", "error"),
                [(one.name, one.at, one.attempts, one.what, one.last_line) for one in found],
            )
            return {"letters": [one.as_json() for one in found]}
        if options["action"] == "show":
            letter = dead_letters.letter(options["letter"])
            self.say(f"{letter.name}  {letter.what}  {letter.attempts} tries\n{letter.error}")
            return letter.as_json()
        names = [one.name for one in dead_letters.letters()] if options["all"] else options["letters"]
        count = dead_letters.redrive(names)
        self.say(f"{count} redriven", "SUCCESS" if count else "")
        return {"redriven": count}
