"""`manage.py perps …`: plan, verify and revoke a Safe's perpetual futures at GMX. Its owners sign in their wallet."""

import json
import sys
from typing import Any

from django.core.management.base import CommandParser

from agents.models import Deployment
from maxxit.core.commands import OpsCommand, count, operator
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from trading import ledger
from trading.deployments import wallet_setup
from trading.venues.safe import plans
from trading.venues.safe.plans import ToSign
from trading.venues.safe.safes import safe_access
from trading.wiring import venue


class Command(OpsCommand):
    help = "Plan, verify and revoke a Safe's perpetual futures at GMX. Its owners sign in their own wallet."
    subcommands = {
        "plan": "print what the owners sign: it enables the module and sets the policy",
        "verify": "compare the chain with the plan; entries need both to agree",
        "show": "print cash and positions of a deployment at GMX, and what its Safe received in other tokens",
        "revoke": "print the transaction that ends the policy and disables the module",
    }
    unverified = False

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--deployment", type=count, required=True, help="its id")
        if action == "plan":
            parser.add_argument("--safe", required=True, help="the Safe's address, with its checksum")

    def run(self, **options: Any) -> Any:
        deployment = Deployment.objects.select_related("agent").filter(pk=options["deployment"]).first()
        if deployment is None:
            raise Rejected(f"there is no deployment {options['deployment']}", code="no_deployment")
        if safe_access(deployment).kind.name != "perps":
            raise Rejected(
                f"{deployment} trades spot on {deployment.agent.venue}, not at GMX: use `manage.py safe`",
                code="not_a_gmx_venue",
            )
        return getattr(self, f"_{options['action']}")(deployment, options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 where the chain disagrees, after everything was printed."""
        super().handle(*args, **options)
        if self.unverified:
            sys.exit(1)

    def _plan(self, deployment: Deployment, options: dict[str, Any]) -> Any:
        return self._to_sign(plans.plan(deployment, options["safe"]))

    def _revoke(self, deployment: Deployment, options: dict[str, Any]) -> Any:
        return self._to_sign(plans.revoke(deployment))

    def _to_sign(self, made: ToSign) -> Any:
        if made.card is not None:
            self.say(made.card.as_text())
        for note in made.notes:
            self.say(f"note: {note}")
        self.say(
            f"the owners of {made.safe} sign this, once ({made.transaction['contractTransactionHash']}):"
        )
        shown = {key: value for key, value in made.transaction.items() if key != "eip712"}
        self.say(json.dumps(shown, indent=2))
        send = made.send.as_json() if made.send else None
        return {
            "safe": made.safe,
            "card": made.card.as_json() if made.card else None,
            "transaction": made.transaction,
            "send": send,
            "notes": list(made.notes),
        }

    def _verify(self, deployment: Deployment, options: dict[str, Any]) -> Any:
        found = wallet_setup.verify_and_activate(deployment, by=operator())
        differences = found.differences
        self.unverified = bool(differences)
        for line in differences:
            self.say(line, "ERROR")
        if differences:
            self.say(
                "the chain does not show this plan: entries are stopped; positions can be closed", "ERROR"
            )
        else:
            self.say(f"verified: {deployment.account} has the policy that its owners signed", "SUCCESS")
        for line in found.problems:
            self.say(f"it does not trade yet: {line}", "WARNING")
        return {
            "deployment": deployment.pk,
            "verified": not differences,
            "differences": differences,
            "problems": list(found.problems),
        }

    def _show(self, deployment: Deployment, options: dict[str, Any]) -> Any:
        at = venue(deployment.agent.venue)
        held = {asset: plain(amount) for asset, amount in at.balances(deployment.account).items()}
        own = ledger.received(ledger.coins_of_safe(deployment.safe_wallet))
        received = {asset: plain(amount) for asset, amount in own.items()}
        for asset, amount in held.items():
            self.say(f"{amount} {asset}")
        for asset, amount in received.items():
            self.say(f"{amount} {asset} that GMX paid to the Safe, in no position")
        return {"account": deployment.account, "held": held, "received": received}
