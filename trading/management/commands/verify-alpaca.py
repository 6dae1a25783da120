"""`manage.py verify-alpaca`: show accounts at Alpaca, what their keys may do and the exchange's hours; no trade."""

from typing import Any, cast

from django.core.management.base import CommandParser

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import MaxxitError
from maxxit.market import venues
from trading.venues.alpaca.venue import AlpacaVenue
from trading.wiring import venue


class Command(OpsCommand):
    help = "Show accounts at Alpaca, what their keys may do and the exchange's hours. Exit code 1 if one may not trade."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "deployment", type=count, nargs="?", help="its id (default: all that are not revoked)"
        )

    def run(self, **options: Any) -> Any:
        names = [name for name, stanza in venues.venues().items() if stanza.adapter == "alpaca"]
        if not names:
            self.say(
                "config/venues.yaml has no venue with the adapter alpaca: docs/alpaca.md shows one", "WARNING"
            )
            return []
        rows = Deployment.objects.filter(agent__venue__in=names).select_related("agent").order_by("pk")
        rows = (
            rows.filter(pk=options["deployment"])
            if options["deployment"]
            else rows.exclude(state=DeploymentState.REVOKED)
        )
        found = [self._verify(row) for row in rows]
        if not found:
            self.say(f"no deployment trades on {', '.join(names)}", "WARNING")
        return found

    def _verify(self, deployment: Deployment) -> dict[str, Any]:
        at_venue = cast(AlpacaVenue, venue(deployment.agent.venue))
        answer: dict[str, Any] = {
            "deployment": deployment.pk,
            "account": deployment.account,
            "may_trade": False,
        }
        try:
            answer |= at_venue.verify(deployment.account)
        except MaxxitError as error:
            answer["error"] = str(error)
        self._print(answer)
        if not answer["may_trade"]:
            self.exit_code = 1
        return answer

    def _print(self, answer: dict[str, Any]) -> None:
        name = f"deployment {answer['deployment']} ({answer['account']})"
        if "error" in answer:
            self.say(f"{name}: {answer['error']}", "ERROR")
            return
        colour = "SUCCESS" if answer["may_trade"] else "ERROR"
        self.say(f"{name}: {', '.join(answer['permissions'])}; {answer['cash']} USD in cash", colour)
        hours = answer["clock"]
        if hours["is_open"]:
            self.say(f"  the stock exchange is open until {hours['next_close']}")
        else:
            self.say(f"  the stock exchange is closed; it opens at {hours['next_open']}")
