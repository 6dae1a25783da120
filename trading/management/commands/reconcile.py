"""`manage.py reconcile`: the ledger held against what the venues say."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.money import plain
from trading import ledger, reconcile
from trading.venues.safe import reconcile as chain


class Command(OpsCommand):
    help = "Compare the ledger with the venues, to the unit. Exit code 0 when all agree, 1 on any drift."
    drifted = False

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--chain",
            action="store_true",
            help="also book what the owners of Safes moved, and compare with balanceOf and gas paid at a final block",
        )

    def run(self, **options: Any) -> Any:
        within = {asset: plain(amount) for asset, amount in ledger.drift().items()}
        apart = {name: plain(amount) for name, amount in reconcile.drifts().items()}
        for asset, amount in within.items():
            self.say(f"the ledger itself does not sum to zero: {asset} {amount}", "ERROR")
        for name, amount in apart.items():
            self.say(f"{name}: the venue holds {amount} more than the ledger says", "ERROR")
        safes = [one.as_json() for one in chain.reconcile_all()] if options["chain"] else []
        gas_balances = [one.as_json() for one in chain.gas_balances()] if options["chain"] else []
        for safe in safes:
            self._tell(safe)
        for gas_balance in gas_balances:
            self._tell_gas(gas_balance)
        self.drifted = bool(within or apart) or not all(one["sound"] for one in (*safes, *gas_balances))
        if not self.drifted:
            self.say("ledger and venues agree to the unit", "SUCCESS")
        return {
            "ok": not self.drifted,
            "ledger": within,
            "venues": apart,
            "safes": safes,
            "executors": gas_balances,
        }

    def _tell_gas(self, gas_balance: dict[str, Any]) -> None:
        name = f"executor {gas_balance['executor']} at block {gas_balance['block']}"
        if gas_balance["external"] != "0":
            self.say(f"{name}: {gas_balance['external']} {gas_balance['coin']} came in, booked as external")
        if gas_balance["unexplained"] != "0":
            self.say(
                f"{name}: {gas_balance['unexplained']} {gas_balance['coin']} went out for what we did not send, "
                "booked as external with an alert: rotate its key",
                "ERROR",
            )
        if gas_balance["in_flight"]:
            self.say(
                f"{name}: {gas_balance['in_flight']} transactions in flight, nothing compared", "WARNING"
            )

    def _tell(self, safe: dict[str, Any]) -> None:
        """One Safe, each difference on a line of its own."""
        name = f"{safe['safe']} at block {safe['block']}"
        for asset, amount in safe["external"].items():
            self.say(f"{name}: the owners moved {amount} {asset}, booked as external")
        for asset, amount in safe["unexplained"].items():
            self.say(
                f"{name}: {amount} {asset} that nothing explains, booked as external with an alert", "ERROR"
            )
        for what in safe["unbooked"]:
            self.say(f"{name}: {what} is final and not booked yet", "ERROR")
        if safe["in_flight"]:
            self.say(f"{name}: {safe['in_flight']} transactions in flight, nothing compared", "WARNING")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 on drift, after everything was printed."""
        super().handle(*args, **options)
        if self.drifted:
            sys.exit(1)
