"""`manage.py resume --reason … [--account …]`: release the kill switch."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, operator
from trading import gate


class Command(OpsCommand):
    help = "Release every latched kill switch, with a reason. The gates stay as they are."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--reason", required=True, help="what was found and done; recorded with the release"
        )
        parser.add_argument("--account", help="release only this account's; default: every latched one")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        account = options["account"]
        count = gate.release(by=operator(options["by"]), reason=options["reason"], account=account)
        self.say(f"{count} kill switches released" if count else "no kill switch was latched", "SUCCESS")
        for switch in gate.latched():
            self.say(f"still latched: {switch.stops} ({switch.reason})", "WARNING")
        return {"released": count, "level": gate.kill_level(account or "")}
