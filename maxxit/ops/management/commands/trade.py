"""`manage.py trade show|close`: one trade from post to result, and closing it by hand."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, count, operator
from maxxit.reports.trades.trade import position_of, trade
from positions.manual_close import close_by_hand


class Command(OpsCommand):
    help = "Show one trade from the post to the result, or close it now. Times are UTC."
    subcommands = {
        "show": "the six steps with the money of each, the costs, and PnL at the newest quote",
        "close": "close the position at the market price; asked again, nothing more is closed",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("position", type=count, help="id of the position")
        if action == "show":
            parser.add_argument("--full", action="store_true", help="prompts, answers and events in full")
        else:
            by_option(parser)

    def run(self, **options: Any) -> Any:
        if options["action"] == "close":
            position = position_of(options["position"], None)
            answer = close_by_hand(position, by=operator(options["by"]))
            self.say(answer.text, "SUCCESS" if answer.started else "WARNING")
            return answer.as_json()
        row = trade(options["position"])
        result = "no quote" if row.result is None else f"{row.result:+,.2f} USDC"
        self.say(f"{row.position}: {result}")
        for step in row.steps:
            self.say(f"{step.name:<8} {iso_utc(step.at) if step.at else '':<24}  {step.money}")
            for line in step.lines:
                self.say(f"    {line}")
            for detail in step.details if options["full"] else []:
                self.say(f"    {detail.title}:")
                for line in detail.text.splitlines():
                    self.say(f"        {line}")
        charges = row.charges
        self.say(
            f"costs    venue {charges.venue_fee:,.2f}, Maxxit {charges.platform_fee:,.2f}, profit share "
            f"{charges.profit_share:,.2f} USDC, slippage {charges.slippage_usd:,.2f} USD"
        )
        return row.as_json()
