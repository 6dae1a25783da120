"""`manage.py chain`: the whole way of one trade, from the post to the PnL."""

from typing import Any

from django.core.management.base import CommandParser
from django.urls import reverse

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand
from maxxit.reports import trace

PREVIEW = 800
"""Characters of a prompt or an answer without `--full`."""


class Command(OpsCommand):
    help = "Show the trace of one trade: post, model, signal, orders, fills, ledger, position, PnL. Times are UTC."

    def options(self, parser: CommandParser, action: str) -> None:
        one = parser.add_mutually_exclusive_group(required=True)
        one.add_argument("--post", metavar="ID", help="our id of a post, or the provider's")
        one.add_argument("--corr", metavar="UUID", help="a correlation id")
        one.add_argument("--signal", metavar="ID", help="a signal")
        one.add_argument("--order", metavar="ID", help="an order")
        one.add_argument("--position", metavar="ID", help="a position")
        parser.add_argument("--full", action="store_true", help="prompts and answers in full")

    def run(self, **options: Any) -> Any:
        what = next(name for name in ("corr", *trace.KINDS) if options[name] is not None)
        found = trace.follow(trace.correlation_of(what, options[what]))
        self.say(
            f"correlation id {found.correlation_id}   page {reverse('chain', args=[found.correlation_id])}"
        )
        for step in trace.timeline(found):
            self.say(f"{iso_utc(step.at)}  {step.kind:<8}  {step.text}")
            self._detail(step.detail, options["full"])
        self.say(f"PnL {found.realised_pnl.normalize():+f} USDC realised, after fees")
        return found.as_json()

    def _detail(self, text: str, full: bool) -> None:
        for line in (text if full else text[:PREVIEW]).splitlines():
            self.say(f"{'':<36}{line}")
        if not full and len(text) > PREVIEW:
            self.say(f"{'':<36}… {len(text) - PREVIEW} more characters with --full")
