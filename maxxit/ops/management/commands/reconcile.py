"""`manage.py reconcile`: compare the ledger with the venues; read open orders and holdings now; end the day."""

import argparse
import sys
import time
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.commands import OpsCommand, decimal_number, duration, operator
from maxxit.core.money import plain
from maxxit.ops.holdings_table import print_holdings
from maxxit.pipeline import release
from maxxit.pipeline.runs import run_stage
from maxxit.reports.owners.holdings import holdings
from maxxit.reports.scope import Scope
from positions import discovered
from positions.performance import day_ends
from trading import ledger, passes, reconcile
from trading.operations import differences
from trading.reconciliation import cycle
from trading.venues.safe import reconcile as chain

EVERYTHING = Scope(None, "all deployments")


class Command(OpsCommand):
    help = (
        "Compare the ledger with the venues, to the unit. With an option: read every open order and holding, once or "
        "every minute, or end the day. Exit code 0 when all agree, 1 on any difference or account that is not read."
    )
    epilog = """examples:
  manage.py reconcile                         compare, and change nothing but owners' transfers
  manage.py reconcile --once                  read every open order and holding, book what changed
  manage.py reconcile --watch                 the same every 60 s until Ctrl-C, and the end of day when it is due
  manage.py reconcile --interval 30           the same every 30 s
  manage.py reconcile --eod                   end each market's day that is over and not ended yet
  manage.py reconcile --adopt alpaca:1 AAPL 10 --reason "bought by hand"
The jobs accounts and day_end do all of this by themselves."""
    drifted = False

    def options(self, parser: CommandParser, action: str) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--once", action="store_true", help="read every open order and holding once")
        what.add_argument("--watch", action="store_true", help="read them every minute until Ctrl-C")
        what.add_argument(
            "--eod",
            action="store_true",
            help="end each market's day that is over: orders, positions, PnL, event",
        )
        parser.add_argument(
            "--interval",
            type=duration,
            metavar="SECONDS",
            help="seconds between two looks of --watch, which it implies; a minute where it is not given",
        )
        what.add_argument(
            "--chain",
            action="store_true",
            help="also book transfers by the owners of Safes, and compare balances and gas at a final block",
        )
        change = ("ACCOUNT", "ASSET", "AMOUNT")
        what.add_argument(
            "--book",
            nargs=3,
            metavar=change,
            help="book this difference as a transfer by the account's owner; needs --reason",
        )
        what.add_argument(
            "--adopt",
            nargs=3,
            metavar=change,
            help="make a position of what was opened elsewhere, with stop and target; needs --reason",
        )
        parser.add_argument("--reason", default="", help="why it is booked; it is kept in the event log")
        parser.add_argument("--by", default="", help="who books it (default: the login name)")

    def run(self, **options: Any) -> Any:
        once = [name for name in ("once", "eod", "chain", "book", "adopt") if options[name]]
        if options["interval"] and once:
            raise CommandError(f"--interval is of --watch: --{once[0]} runs once")
        for change, do in ((options["book"], self._book), (options["adopt"], self._adopt)):
            if change:
                account, asset, text = change
                return do(account, asset, _amount(text), by=operator(options["by"]), reason=options["reason"])
        if options["eod"]:
            return self._end_days()
        if options["once"]:
            return self._look()
        if options["watch"] or options["interval"]:
            return self._watch(options["interval"] or passes.policy().reconcile.orders_seconds)
        return self._compare(with_chain=options["chain"])

    def _compare(self, *, with_chain: bool) -> dict[str, Any]:
        """Compare, and print what differs."""
        # First what the owners of Safes moved: booked, it is no difference.
        safes = [one.as_json() for one in chain.reconcile_all()] if with_chain else []
        gas_balances = [one.as_json() for one in chain.gas_balances()] if with_chain else []
        unbalanced = {asset: plain(amount) for asset, amount in ledger.drift().items()}
        differences = {name: plain(amount) for name, amount in reconcile.drifts().items()}
        for asset, amount in unbalanced.items():
            self.say(f"the ledger does not balance: {asset} sums to {amount}, not 0", "ERROR")
        for name, amount in differences.items():
            self.say(f"{name}: venue minus ledger is {amount}", "ERROR")
        for safe in safes:
            self._print_safe(safe)
        for gas_balance in gas_balances:
            self._print_gas(gas_balance)
        self.drifted = bool(unbalanced or differences) or not all(
            one["sound"] for one in (*safes, *gas_balances)
        )
        if not self.drifted:
            self.say("ledger and venues agree to the unit", "SUCCESS")
        return {
            "ok": not self.drifted,
            "ledger": unbalanced,
            "venues": differences,
            "safes": safes,
            "executors": gas_balances,
        }

    def _look(self) -> dict[str, Any]:
        """Look at every account once, and print the line of the cycle and what differs."""
        numbers = cycle.run_now()
        words = ("pending_found", "updated", "became_terminal", "unchanged", "errors", "market_hours")
        self.say("RECONCILE_CYCLE " + " ".join(f"{word}={numbers[word]}" for word in words))
        self.say(
            f"{numbers['accounts']} reads of accounts, {numbers['failed']} failed, {numbers['closed']} skipped: market "
            "closed"
        )
        rows = holdings(EVERYTHING, unexplained=True)
        print_holdings(self, rows) if rows else self.say("ledger and venues agree to the unit", "SUCCESS")
        self.drifted = bool(rows or numbers["failed"])
        return numbers | {"ok": not self.drifted, "differences": [row.as_json() for row in rows]}

    def _watch(self, seconds: float) -> dict[str, Any]:
        """Look at every account every `seconds`, and end days that are due, until Ctrl-C."""
        self.say(f"reconcile_loop_started interval={seconds:g}")
        cycles, last = 0, {}
        try:
            while True:
                last, cycles = self._look(), cycles + 1
                if run_stage("day_end", day_ends.end_due)["out"]:
                    self.say("a day was summarised or ended: see `manage.py reconcile --eod`", "SUCCESS")
                self.say(f"again in {seconds:g} s; Ctrl-C stops")
                time.sleep(seconds)
        except KeyboardInterrupt:
            self.say()
        return {"cycles": cycles, "last": last}

    def _end_days(self) -> dict[str, Any]:
        """End every day that is due, and print the newest end of each market."""
        release.check_declared()
        done = run_stage("day_end", day_ends.end_due)
        if "skipped" in done:
            self.say("a worker is ending a day right now: repeat in a minute", "WARNING")
        rows = day_ends.newest()
        for row in rows:
            state = "open" if row.finished_at is None else "ok" if row.ok else "ended with failed steps"
            self.say(f"{row.market} {row.day}: {state}", "SUCCESS" if row.ok else "WARNING")
            for name, step in row.steps.items():
                self.say(f"  {'ok ' if step['ok'] else 'BAD'}  {name}: {step['detail']}")
        if not rows:
            self.say("no day has ended since anything was traded")
        self.exit_code = 0 if all(row.ok for row in rows) else 1
        return {
            "ended": done.get("ended", 0),
            "days": [
                {
                    "market": row.market,
                    "day": row.day.isoformat(),
                    "finished_at": row.finished_at,
                    "ok": row.ok,
                    "steps": row.steps,
                }
                for row in rows
            ],
        }

    def _adopt(self, account: str, asset: str, number: Decimal, *, by: str, reason: str) -> dict[str, Any]:
        position = discovered.adopt(account, asset, number, by=by, reason=reason)
        self.say(
            f"position {position.pk}: long {plain(number)} {asset} of {account} from {plain(position.entry_price)} "
            f"USD, stop {plain(position.stop_loss)}, target {plain(position.take_profit)}",
            "SUCCESS",
        )
        return {"position": position.pk, "account": account, "asset": asset, "quantity": plain(number)}

    def _book(self, account: str, asset: str, number: Decimal, *, by: str, reason: str) -> dict[str, str]:
        row = differences.apply(account, asset, number, by=by, reason=reason)
        self.say(f"booked {plain(row.amount)} {asset} of {account} as a transfer by its owner", "SUCCESS")
        return row.as_json()

    def _print_gas(self, gas_balance: dict[str, Any]) -> None:
        if gas_balance["problem"]:
            who = f"executor {gas_balance['executor']}" if gas_balance["executor"] else "executors"
            self.say(f"{who}: not compared: {gas_balance['problem']}", "ERROR")
            return
        name = f"executor {gas_balance['executor']} at block {gas_balance['block']}"
        if gas_balance["external"] != "0":
            self.say(
                f"{name}: {gas_balance['external']} {gas_balance['coin']} was deposited, booked as external"
            )
        if gas_balance["unexplained"] != "0":
            self.say(
                f"{name}: {gas_balance['unexplained']} {gas_balance['coin']} was spent by transactions that are not "
                "ours, booked as external with an alert: rotate the executor's key",
                "ERROR",
            )
        if gas_balance["in_flight"]:
            self.say(
                f"{name}: {gas_balance['in_flight']} transactions in flight, nothing compared", "WARNING"
            )

    def _print_safe(self, safe: dict[str, Any]) -> None:
        if safe["problem"]:
            self.say(f"{safe['safe']}: not compared: {safe['problem']}", "ERROR")
            return
        name = f"{safe['safe']} at block {safe['block']}"
        for asset, amount in safe["external"].items():
            self.say(f"{name}: the owners moved {amount} {asset}, booked as external")
        for asset, amount in safe["unexplained"].items():
            self.say(f"{name}: {amount} {asset} is unexplained, booked as external with an alert", "ERROR")
        for intent in safe["unbooked"]:
            self.say(f"{name}: the transaction {intent} is final and not booked yet", "ERROR")
        if safe["in_flight"]:
            self.say(f"{name}: {safe['in_flight']} transactions in flight, nothing compared", "WARNING")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 on drift, after everything was printed."""
        super().handle(*args, **options)
        if self.drifted:
            sys.exit(1)


def _amount(text: str) -> Decimal:
    """Parse AMOUNT, which argparse cannot: it is one of three values. Raises CommandError."""
    try:
        return decimal_number(text)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"AMOUNT: {error}") from None
