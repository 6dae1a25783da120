"""`manage.py deployments list | show | create | check | activate | pause | revoke | stop | release`."""

import argparse
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents.deploying import create_deployment
from agents.describe import agent_named
from agents.models import Deployment
from maxxit.core.commands import OpsCommand, by_option, count, operator, person_named
from maxxit.core.errors import InvalidInput
from maxxit.core.terms import KILL_LEVELS, ExitPreset, KillLevel, Preset
from trading.deployments import activation, stops
from trading.deployments.describe import deployment_data, deployment_numbered, deployments_data

MOVES = {"activate": activation.activate, "pause": activation.pause, "revoke": activation.revoke}


class Command(OpsCommand):
    help = "List, create, activate, pause, stop and revoke deployments: an agent that trades for one account."
    subcommands = {
        "list": "list deployments",
        "show": "show one deployment and what stops it",
        "create": "create a draft, at an account of its own",
        "check": "say what a capital would trade with a preset, and what cannot work; changes nothing",
        "activate": "let it open positions, if its plan can work",
        "pause": "open no more positions; open ones keep their exits",
        "revoke": "end it for good; open positions keep their exits",
        "stop": "pull the kill switch of its account, as its owner",
        "release": "release what its owner pulled",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            parser.add_argument("--owner", help="only the deployments of this user")
        elif action == "check":
            parser.add_argument("capital", type=_usdc, help="USDC to trade with")
            parser.add_argument(
                "--preset",
                default=Preset.MODERATE,
                choices=list(Preset),
                help="sizing preset (default: moderate)",
            )
            parser.add_argument(
                "--exits",
                default=ExitPreset.SIGNAL,
                choices=list(ExitPreset),
                help="exit preset (default: signal)",
            )
            parser.add_argument(
                "--venue", default="paper", help="a name from config/venues.yaml (default: paper)"
            )
        elif action == "create":
            parser.add_argument("agent", help="id or name of the agent")
            parser.add_argument("--owner", help="user name of its owner (default: the agent's)")
            parser.add_argument("--capital", type=_usdc, help="USDC that a paper account starts with")
        else:
            parser.add_argument("deployment", type=count, help="its id")
        if action == "revoke":
            parser.add_argument("--yes", action="store_true", help="do not ask: it cannot be undone")
        if action in ("stop", "release"):
            parser.add_argument("--reason", required=True, help="why; recorded with the switch")
        if action == "stop":
            parser.add_argument(
                "--level",
                default=KillLevel.NO_ENTRIES,
                choices=KILL_LEVELS,
                help="flatten closes every position (default: no_entries)",
            )
        if action not in ("list", "show", "check"):
            by_option(parser)

    def run(self, **options: Any) -> Any:
        action = options["action"]
        if action == "list":
            return self._list(options["owner"])
        if action == "check":
            return self._check(options)
        by = operator(options.get("by", ""))
        if action == "create":
            return self._create(options, by)
        deployment = deployment_numbered(options["deployment"])
        if action in MOVES:
            if action == "revoke":
                self._confirm(deployment, options["yes"])
            moved = MOVES[action](deployment, by=by, why="command")
            self.say(
                f"deployment {deployment.pk} is {deployment.state}{'' if moved else ' already'}", "SUCCESS"
            )
        elif action == "stop":
            switch = stops.stop(deployment, options["level"], by=by, reason=options["reason"])
            self.say(f"latched: {switch.stops}", "ERROR")
        elif action == "release":
            for other in stops.release(deployment, by=by, reason=options["reason"]):
                self.say(f"still latched: {other.stops} ({other.reason})", "WARNING")
        data = deployment_data(deployment)
        return self.rows(data) if action == "show" else data

    def _list(self, owner: str | None) -> Any:
        rows = Deployment.objects.select_related("agent", "owner").order_by("pk")
        if owner is not None:
            rows = rows.filter(owner_id=person_named(owner).pk)
        data = deployments_data(rows)
        self.table(
            ("id", "agent", "owner", "state", "venue", "account", "starting balance (USDC)", "stopped"),
            [
                (
                    row["id"],
                    row["agent"],
                    row["owner"],
                    row["status"],
                    row["venue"],
                    row["account"],
                    row["starting_balance"],
                    ", ".join(stop["level"] for stop in row["stops"]),
                )
                for row in data
            ],
        )
        return data

    def _create(self, options: dict[str, Any], by: str) -> Any:
        agent = agent_named(options["agent"])
        owner = person_named(options["owner"]) if options["owner"] else agent.owner
        if owner is None:
            raise InvalidInput({"--owner": f"agent {agent} has no owner: name the deployment's"})
        deployment = create_deployment(agent, owner, by=by, capital=options["capital"])
        for problem in activation.obstacles(deployment):
            self.say(problem, "WARNING")
        self.say(
            f"deployment {deployment.pk} is a draft: `manage.py deployments activate {deployment.pk}`",
            "SUCCESS",
        )
        return deployment_data(deployment)

    def _check(self, options: dict[str, Any]) -> Any:
        plan = activation.check(options["capital"], options["preset"], options["venue"], options["exits"])
        sizes = ", ".join(f"{tier} {size:f}" for tier, size in plan.orders.items())
        self.say(f"orders by confidence (USDC): {sizes}; minimum {plan.minimum:f}")
        for text in plan.problems:
            self.say(text, "ERROR")
        for text in plan.notes:
            self.say(text, "WARNING")
        self.exit_code = 0 if plan.ok else 1
        return plan.as_json()

    def _confirm(self, deployment: Deployment, yes: bool) -> None:
        """Ask before what cannot be undone. Raises CommandError unless the answer is yes."""
        if yes:
            return
        question = f"Revoke deployment {deployment.pk} ({deployment}) for good? Type yes: "
        try:
            answer = "" if self.quiet else input(question)
        except EOFError:
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("nothing was revoked: confirm with yes, or give --yes")


def _usdc(text: str) -> Decimal:
    """argparse type: an amount of USDC above 0."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount above 0")
    return amount
