"""`manage.py verbs`: the verbs of the older runbooks and what they are here."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.ops import verbs


class Command(OpsCommand):
    help = "List the verbs of the older runbooks as targets of make, with the command of each."

    def options(self, parser: CommandParser, action: str) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--make", action="store_true", help="as verbs.mk has them")
        how.add_argument("--markdown", action="store_true", help="as the table of docs/runbook.md has them")

    def run(self, **options: Any) -> Any:
        if options["make"] or options["markdown"]:
            text = verbs.makefile() if options["make"] else verbs.markdown()
            self.say(text.rstrip("\n"))
            return {"text": text}
        wide = max(len(verb.usage) for verb in verbs.VERBS)
        for verb in verbs.VERBS:
            self.say(f"{verb.usage:<{wide}}  {verb.what}")
        return [
            {"verb": verb.name, "command": verb.command, "what": verb.what,
             "variables": [one.variable for one in verb.given]}
            for verb in verbs.VERBS
        ]  # fmt: skip
