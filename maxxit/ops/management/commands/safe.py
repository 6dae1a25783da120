"""`manage.py safe …`: show, create, plan, verify and revoke Safes, and create the executor's keystore."""

import json
import os
import secrets
import sys
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from pydantic import TypeAdapter

from agents.models import Deployment
from maxxit.core.clock import iso_utc
from maxxit.core.commands import EMPTY, OpsCommand, by_option, count, decimal_number, operator, whole
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import brief, plain, usdc
from maxxit.market.venues import venues
from maxxit.reports.safes.wallet import Wallet, wallets
from trading.chain import chains
from trading.chain.executor_keys import executor_keys
from trading.chain.signer import KEYSTORE, PASSWORD, write_keystore
from trading.deployments import safe_limits, wallet_setup
from trading.venues.gmx.limits import CHOICE
from trading.venues.safe import plans, safes, verify
from trading.venues.safe.limits import SPOT_CHOICE
from trading.wiring import venue


def _loosen_delay(text: str) -> int:
    """Parse seconds. Raises ValueError, which argparse reports, outside the contract's bounds."""
    return TypeAdapter(chains.LoosenDelay).validate_python(text)


class Command(OpsCommand):
    help = "Show, create, plan, verify and revoke Safes. The owners sign in their own wallet."
    subcommands = {
        "show": "print balances, limits used and left, fees, module and stops of Safes",
        "create": "print the address of a new Safe and the transaction that creates it, with a policy or without",
        "plan": "print what the owners sign: permission card, Safe transaction, EIP-712 hash",
        "limits": "plan other limits for a Safe that trades, and print what the owners sign",
        "verify": "compare the chain with the plan; entries need both to agree",
        "revoke": "print the transaction that revokes the module",
        "keystore": "create the executor's key as an encrypted file",
        "executor": "print where the executor's keys of this environment are, and their addresses",
    }
    unverified = False

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "show":
            parser.add_argument("--user", default="", help="Safes of this customer alone")
            parser.add_argument("--deployment", type=count, help="the Safe of this deployment alone")
            parser.add_argument("--limit", type=count, default=20, help="Safes at most (default 20)")
        elif action == "create":
            parser.add_argument(
                "--deployment",
                type=count,
                help="create the Safe with the module enabled and this deployment's limits set, for one owner",
            )
            parser.add_argument(
                "--venue",
                default="safe",
                help="a venue of venues.yaml whose adapter is `safe` or `gmx` (default safe)",
            )
            parser.add_argument("--owner", action="append", required=True, help="an address; may be repeated")
            parser.add_argument(
                "--threshold", type=count, default=1, help="how many owners must sign (default 1)"
            )
            parser.add_argument(
                "--salt",
                type=whole,
                help="a different salt gives a different address (default: a random one)",
            )
        elif action == "keystore":
            parser.add_argument("path", type=Path, help="path of the encrypted file")
        elif action != "executor":
            parser.add_argument("--deployment", type=count, required=True, help="its id")
        if action == "limits":
            parser.add_argument("--max-trade", type=decimal_number, help="spot: USDC of one order")
            parser.add_argument(
                "--max-collateral",
                type=decimal_number,
                help="perpetual futures: USDC of collateral of a trade",
            )
            parser.add_argument(
                "--max-leverage", type=decimal_number, help="perpetual futures: size over collateral"
            )
            parser.add_argument(
                "--max-notional", type=decimal_number, help="perpetual futures: USDC of size of a trade"
            )
            parser.add_argument(
                "--daily-collateral",
                type=decimal_number,
                help="perpetual futures: USDC of collateral in 24 hours",
            )
            parser.add_argument(
                "--daily-notional", type=decimal_number, help="USDC of all orders, or sizes, of 24 hours"
            )
            parser.add_argument("--trades-per-day", type=decimal_number, help="trades in 24 hours")
            parser.add_argument("--loss-budget", type=decimal_number, help="USDC of losses in 24 hours")
            parser.add_argument("--total-loss-budget", type=decimal_number, help="USDC of losses in all")
            by_option(parser)
        if action == "plan":
            parser.add_argument("--safe", default="", help="the Safe's address; needed for the first plan")
            parser.add_argument(
                "--loosen-delay",
                type=_loosen_delay,
                help="seconds before a later policy that loosens anything takes effect, up to 30 days; 0 = at once "
                "(default: policy.loosen_delay of config/chains.yaml)",
            )

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 where the chain disagrees, after everything was printed."""
        super().handle(*args, **options)
        if self.unverified:
            sys.exit(1)

    def _show(self, options: dict[str, Any]) -> Any:
        rows = Deployment.objects.exclude(safe_wallet="").select_related("agent").order_by("-pk")
        if options["user"]:
            rows = rows.filter(owner__username=options["user"])
        if options["deployment"]:
            rows = rows.filter(pk=options["deployment"])
        shown = wallets(list(rows[: options["limit"]]))
        for row in shown:
            self._show_one(row)
        if not shown:
            self.say("no deployment of these has a Safe", "WARNING")
        return {"items": [row.as_json() for row in shown]}

    def _show_one(self, row: Wallet) -> None:
        self.say(f"{row.deployment.agent.name}: {row.deployment.safe_wallet}, module {row.module}", "SUCCESS")
        if row.seen.problem:
            age = f"as read at {iso_utc(row.seen.read_at)}" if row.seen.read_at else "nothing is known"
            self.say(f"  {row.seen.problem}: {age}", "WARNING")
        held = [f"{row.usdc if row.usdc is not None else EMPTY} USDC"]
        self.say(
            "  " + ", ".join(held + [f"{brief(amount)} {symbol}" for symbol, amount in row.tokens.items()])
        )
        for gauge in row.gauges:
            unit = f" {gauge.unit}" if gauge.unit else ""
            self.say(f"  {gauge.label}: {plain(gauge.used)} of {plain(gauge.limit)}{unit} used")
        self.say(
            f"  fees paid {plain(usdc(row.fees))} USDC, profit share {plain(usdc(row.profit_share))} USDC"
        )
        notes = [row.stop and f"the Safe is {row.stop}", *row.stop_sentences]
        notes += ["a plan waits for its owners' signatures"] if row.unsigned else []
        notes += list(row.state.differences) if row.state and not row.unsigned else []
        for note in filter(None, notes):
            self.say(f"  {note}", "WARNING")

    def _create_with_policy(self, options: dict[str, Any]) -> Any:
        """Plan a new Safe of one owner for a deployment."""
        if len(options["owner"]) != 1 or options["threshold"] != 1:
            raise Rejected(
                "--deployment creates a Safe of one owner: give one --owner. For several owners create it without "
                "--deployment, and plan it with `safe plan`",
                code="wrong_owner",
            )
        deployment = _deployment(options)
        made = plans.plan_new(deployment, options["owner"][0])
        if made.card is None or made.send is None:
            raise Misconfigured("a plan of a new Safe has a card and a transaction")
        self.say(made.card.as_text())
        self.say()
        self.say(f"the Safe will be {made.safe} on chain {deployment.chain_id}", "SUCCESS")
        self.say("its owner sends this, once; then run `safe verify`:")
        self.say(json.dumps(made.send.as_json(), indent=2))
        return {
            "safe": made.safe,
            "chain_id": deployment.chain_id,
            "card": made.card.as_json(),
            "transaction": made.send.as_json(),
        }

    def _create(self, options: dict[str, Any]) -> Any:
        if options["deployment"]:
            return self._create_with_policy(options)
        at = venue(options["venue"]).safe_access()
        if at is None:
            raise Rejected(f"{options['venue']} does not trade from Safes", code="not_a_safe_venue")
        salt = secrets.randbits(64) if options["salt"] is None else options["salt"]
        made = plans.create(at, options["owner"], options["threshold"], salt) | {"salt": salt}
        self.say(f"the Safe will be {made['safe']} on chain {made['chain_id']} (salt {salt})", "SUCCESS")
        self.say("send this from any account to create it:")
        self.say(json.dumps(made["transaction"], indent=2))
        return made

    def _plan(self, options: dict[str, Any]) -> Any:
        made = plans.plan(_deployment(options), options["safe"], options["loosen_delay"])
        if made.card is None:
            raise Misconfigured("a plan has a card")
        self.say(made.card.as_text())
        for note in made.notes:
            self.say(f"note: {note}")
        self.say()
        self._to_sign(made)
        return {
            "safe": made.safe,
            "card": made.card.as_json(),
            "transaction": made.transaction,
            "notes": made.notes,
        }

    def _limits(self, options: dict[str, Any]) -> Any:
        deployment = _deployment(options)
        known = {*SPOT_CHOICE.names, *CHOICE.names}
        given = {name: options[name] for name in known if options[name] is not None}
        made = safe_limits.propose(deployment, given, by=operator(options["by"]))
        proposal = verify.proposal(deployment.chain_id or 0, made.safe)
        changes = safe_limits.changes(deployment, proposal) if proposal else []
        for row in changes:
            self.say(f"{row.label}: {row.before_text} to {row.after_text}")
        notes = [*made.notes, *safe_limits.warnings_of(deployment)]
        for note in notes:
            self.say(f"note: {note}", "WARNING")
        self._to_sign(made)
        return {
            "safe": made.safe,
            "changes": [
                {"limit": row.label, "unit": row.unit, "before": plain(row.before), "after": plain(row.after)}
                for row in changes
            ],
            "card": made.card.as_json() if made.card else None,
            "transaction": made.transaction,
            "notes": notes,
        }

    def _revoke(self, options: dict[str, Any]) -> Any:
        made = plans.revoke(_deployment(options))
        self._to_sign(made)
        return {"safe": made.safe, "transaction": made.transaction}

    def _to_sign(self, made: plans.ToSign) -> None:
        self.say(
            f"the owners of {made.safe} sign this, once ({made.transaction['contractTransactionHash']}):"
        )
        shown = {key: value for key, value in made.transaction.items() if key != "eip712"}
        self.say(json.dumps(shown, indent=2))

    def _verify(self, options: dict[str, Any]) -> Any:
        deployment = _deployment(options)
        found = wallet_setup.verify_and_activate(deployment, by=operator())
        differences = found.differences
        self.unverified = bool(differences)
        for line in differences:
            self.say(line, "ERROR")
        if differences:
            stays = (
                "entries go on under the previous plan" if deployment.verified_at else "entries are stopped"
            )
            self.say(f"the chain does not show this plan yet: {stays}; positions can be closed", "ERROR")
        else:
            self.say(f"verified: {deployment.safe_wallet} has the policy that its owners signed", "SUCCESS")
        for line in found.problems:
            self.say(f"it does not trade yet: {line}", "WARNING")
        stopped = safes.stopped(deployment)
        for symbol, code in stopped.items():
            self.say(
                f"entries in {'every token' if symbol == '*' else symbol} are stopped: {code}", "WARNING"
            )
        return {
            "deployment": deployment.pk,
            "verified": not differences,
            "differences": differences,
            "problems": list(found.problems),
            "stopped": stopped,
        }

    def _keystore(self, options: dict[str, Any]) -> Any:
        if options["path"].exists():
            raise Rejected(
                f"{options['path']} exists and is not overwritten: choose another path", code="exists"
            )
        password = os.environ.get(PASSWORD) or getpass("password of the new keystore: ")
        if not password:
            raise Rejected("the password is empty: choose one", code="empty_password")
        address = write_keystore(options["path"], secrets.token_bytes(32), password)
        self.say(f"{options['path']} holds the key of {address}; send it ETH for gas", "SUCCESS")
        return {"address": address, "path": str(options["path"])}

    def _executor(self, options: dict[str, Any]) -> Any:
        traded = {str(venue.options["chain"]) for venue in venues().values() if "chain" in venue.options}
        keys = executor_keys(traded)
        for key in keys:
            self.say(str(key), "WARNING" if key.problem else "SUCCESS")
            if key.problem:
                self.say(key.problem, "WARNING")
        if not keys:
            self.say(
                f"{KEYSTORE} is not set: this environment has no executor's key, as all but the signing workers"
            )
        self.unverified = any(key.problem for key in keys)
        return [key.as_json() for key in keys]


def _deployment(options: dict[str, Any]) -> Deployment:
    deployment = Deployment.objects.select_related("agent").filter(pk=options["deployment"]).first()
    if deployment is None:
        raise Rejected(f"there is no deployment {options['deployment']}", code="no_deployment")
    return deployment
