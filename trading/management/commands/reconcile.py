"""`manage.py reconcile`: compare the ledger with the balances at the venues."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.money import plain
from trading import ledger, reconcile
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

    def run(self, **options: Any) -> Any:
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
