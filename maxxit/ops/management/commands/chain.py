"""`manage.py chain`: the trace of one trade, from the post to the PnL."""

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
        row = parser.add_mutually_exclusive_group(required=True)
        row.add_argument("--post", metavar="ID", help="id of a post, ours or the provider's")
        row.add_argument("--corr", metavar="UUID", help="correlation id")
        row.add_argument("--signal", metavar="ID", help="id of a signal")
        row.add_argument("--order", metavar="ID", help="id of an order")
        row.add_argument("--position", metavar="ID", help="id of a position")
        parser.add_argument("--full", action="store_true", help="prompts and answers in full")

    def run(self, **options: Any) -> Any:
        what = next(name for name in ("corr", *trace.KINDS) if options[name] is not None)
        rows = trace.follow(trace.correlation_of(what, options[what]))
        self.say(
            f"correlation id {rows.correlation_id}   page {reverse('chain', args=[rows.correlation_id])}"
        )
        for step in trace.timeline(rows):
            self.say(f"{iso_utc(step.at)}  {step.kind:<8}  {step.text}")
            self._detail(step.detail, options["full"])
        self.say(f"PnL {rows.net.normalize():+f} USDC realised, after fees and profit share")
        return rows.as_json()

    def _detail(self, text: str, full: bool) -> None:
        for line in (text if full else text[:PREVIEW]).splitlines():
            self.say(f"{'':<36}{line}")
        if not full and len(text) > PREVIEW:
            self.say(f"{'':<36}… {len(text) - PREVIEW} more characters with --full")
