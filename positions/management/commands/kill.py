"""`manage.py kill LEVEL --reason … [--account …]`: pull the kill switch."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents.models import Deployment
from maxxit.core.commands import OpsCommand, by_option, operator
from maxxit.core.terms import KILL_LEVELS, KillLevel
from positions import flatten
from trading import gate


class Command(OpsCommand):
    help = (
        "Pull the kill switch. It stays latched until `manage.py resume --reason …`. It does not stop exits; "
        "a venue's dry run and a revoked approval do."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "level",
            choices=KILL_LEVELS,
            help="no_entries: no position is opened; reduce_only: no position is opened or grows; "
            "flatten: every position is closed, if the gate of its venue is open",
        )
        parser.add_argument("--reason", required=True, help="why; recorded with the switch")
        parser.add_argument("--account", default="", help="stop only this account at its venue")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        account = options["account"]
        if account and not Deployment.objects.filter(account=account).exists():
            raise CommandError(
                f"no deployment trades from the account {account!r}; see `manage.py portfolio`"
            )
        made = gate.kill(
            options["level"], by=operator(options["by"]), reason=options["reason"], account=account
        )
        level = gate.kill_level(account)
        self.say(f"latched: {level}, from the next order on ({made.reason}). {made.stops}", "ERROR")
        left = flatten.unclosed() if made.level == KillLevel.FLATTEN else []
        for one in left:
            self.say(
                f"position {one.position} ({one.symbol} at {one.venue}) is not closed: {one.reason}",
                "WARNING",
            )
        return {
            "id": made.pk, "level": level, "account": account, "unclosed": [asdict(one) for one in left],
        }  # fmt: skip
