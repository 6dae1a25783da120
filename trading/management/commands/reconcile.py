"""`manage.py reconcile`: compare the ledger with the balances at the venues."""

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.commands import OpsCommand, operator
from maxxit.core.money import plain
from trading import ledger, reconcile
from trading.operations import differences
from trading.venues.safe import reconcile as chain


class Command(OpsCommand):
    help = "Compare the ledger with the venues, to the unit. Exit code 0 when all agree, 1 on any difference."
    drifted = False

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--chain",
            action="store_true",
            help="also book transfers by the owners of Safes, and compare balances and gas at a final block",
        )

        parser.add_argument(
            "--book",
            nargs=3,
            metavar=("ACCOUNT", "ASSET", "AMOUNT"),
            help="book this difference as a transfer by the account's owner; needs --reason",
        )
        parser.add_argument("--reason", default="", help="why it is booked; it is kept in the event log")
        parser.add_argument("--by", default="", help="who books it (default: the login name)")

    def run(self, **options: Any) -> Any:
        if options["book"]:
            return self._book(*options["book"], by=operator(options["by"]), reason=options["reason"])
        # First what the owners of Safes moved: booked, it is no difference.
        safes = [one.as_json() for one in chain.reconcile_all()] if options["chain"] else []
        gas_balances = [one.as_json() for one in chain.gas_balances()] if options["chain"] else []
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

    def _book(self, account: str, asset: str, amount: str, *, by: str, reason: str) -> dict[str, str]:
        try:
            number = Decimal(amount)
        except InvalidOperation:
            raise CommandError(f"AMOUNT: {amount} is no number") from None
        row = differences.apply(account, asset, number, by=by, reason=reason)
        self.say(f"booked {plain(row.amount)} {asset} of {account} as a transfer by its owner", "SUCCESS")
        return row.as_json()

    def _print_gas(self, gas_balance: dict[str, Any]) -> None:
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
