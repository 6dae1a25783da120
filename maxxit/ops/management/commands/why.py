"""`manage.py why`: what stopped a post, a signal or an order."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports import why


class Command(OpsCommand):
    help = (
        "Explain what stopped a post, signal, order or price: reason, measured value, limit, what to change."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        one = parser.add_mutually_exclusive_group(required=True)
        one.add_argument("--post", metavar="ID", help="our id of a post, or the provider's")
        one.add_argument("--signal", metavar="ID", help="a signal")
        one.add_argument("--order", metavar="ID", help="an order")
        one.add_argument("--symbol", metavar="NAME", help="why nothing is opened on it now")

    def run(self, **options: Any) -> Any:
        what = next(name for name in ("symbol", *why.KINDS) if options[name] is not None)
        stops = why.of_symbol(options["symbol"]) if what == "symbol" else why.why(what, options[what])
        if not stops and what == "symbol":
            self.say(f"nothing: the price of {options['symbol']} is fresh and trusted")
        elif not stops:
            self.say(f"nothing stopped this {what}: see `manage.py chain --{what} {options[what]}`")
        for stop in stops:
            self.say(f"{stop.what}: {stop.code}: {stop.meaning}")
            if stop.measured or stop.limit:
                self.say(f"    measured {stop.measured or '–'}, limit {stop.limit or '–'}")
            self.say(f"    to change it: {stop.change}")
        return {"stopped": bool(stops), "reasons": [stop.as_json() for stop in stops]}
