"""`manage.py why`: explain what stopped a post, signal or order, or why a symbol or an agent's token is not traded."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, clock_text
from maxxit.reports.activity import feed
from maxxit.reports.trades import reasons, why


class Command(OpsCommand):
    help = (
        "Explain what stopped a post, signal, order or price: reason, measured value, limit, what to change."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        row = parser.add_mutually_exclusive_group(required=True)
        row.add_argument("--post", metavar="ID", help="id of a post, ours or the provider's")
        row.add_argument("--signal", metavar="ID", help="id of a signal")
        row.add_argument("--order", metavar="ID", help="id of an order")
        row.add_argument("--symbol", metavar="NAME", help="why no position in this symbol is opened now")
        row.add_argument("--list", action="store_true", help="print every reason code as a Markdown table")
        row.add_argument("--agent", metavar="NAME", help="why this agent did not trade --token around --at")
        parser.add_argument("--token", default="", metavar="NAME", help="with --agent: the token")
        parser.add_argument(
            "--at", default="", metavar="TIME", help="with --agent: the UTC time, default now"
        )

    def run(self, **options: Any) -> Any:
        if options["list"]:
            self.say(reasons.markdown())
            return {"reasons": reasons.as_json()}
        if options["agent"] is not None:
            return self._not_traded(options)
        what = next(name for name in ("symbol", *why.KINDS) if options[name] is not None)
        stops = why.of_symbol(options["symbol"]) if what == "symbol" else why.why(what, options[what])
        if not stops and what == "symbol":
            self.say(f"nothing: the price of {options['symbol']} is fresh and trusted")
        elif not stops:
            self.say(f"nothing stopped this {what}: see `manage.py chain --{what} {options[what]}`")
        self._stops(stops)
        became = why.became(options["post"]) if what == "post" else []
        for row in became:
            self.say(f"{row['purpose']} by {row['read_by']}: {row['text']}")
        return {
            "stopped": any(not stop.waiting for stop in stops),
            "reasons": [stop.as_json() for stop in stops],
            **({"became": became} if what == "post" else {}),
        }

    def _not_traded(self, options: dict[str, Any]) -> Any:
        if not options["token"]:
            raise CommandError("--agent needs --token: which token did it not trade?")
        at = feed.moment("--at", options["at"]) or clock.now()
        answer = why.not_traded(options["agent"], options["token"], at)
        self.say(answer.text)
        self._stops(answer.reasons)
        self.say(f"searched {clock_text(answer.since)} to {clock_text(answer.until)} UTC; page {answer.url}")
        return answer.as_json()

    def _stops(self, stops: list[why.Stop]) -> None:
        for stop in stops:
            code = f"waiting: {stop.code.replace('_', ' ')}" if stop.waiting else stop.code
            self.say(f"{stop.what}: {code}: {stop.meaning}")
            if stop.measured or stop.limit:
                measured = "" if stop.waiting else "measured "
                self.say(f"    {measured}{stop.measured or '–'}, limit {stop.limit or '–'}")
            if stop.read_by:
                self.say(f"    read by {stop.read_by}")
            if stop.change:
                self.say(f"    to change it ({stop.audience}): {stop.change}")
