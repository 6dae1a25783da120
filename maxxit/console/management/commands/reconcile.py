"""`manage.py reconcile`: the ledger held against what the venues say."""

import sys
from typing import Any

from maxxit.console.ops import OpsCommand
from maxxit.core.money import plain
from trading import ledger, reconcile


class Command(OpsCommand):
    """See the module."""

    help = "Hold the ledger against the venues, to the unit. Exit code 0 when all agree, 1 on any drift."
    drifted = False

    def run(self, **options: Any) -> Any:
        """Print each difference."""
        within = {asset: plain(amount) for asset, amount in ledger.drift().items()}
        apart = {name: plain(amount) for name, amount in reconcile.drifts().items()}
        for asset, amount in within.items():
            self.say(f"the ledger itself does not sum to zero: {asset} {amount}", "ERROR")
        for name, amount in apart.items():
            self.say(f"{name}: the venue holds {amount} more than the ledger says", "ERROR")
        self.drifted = bool(within or apart)
        if not self.drifted:
            self.say("ledger and venues agree to the unit", "SUCCESS")
        return {"ok": not self.drifted, "ledger": within, "venues": apart}

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 on drift, after everything was printed."""
        super().handle(*args, **options)
        if self.drifted:
            sys.exit(1)
