"""`manage.py deployments`: list, create, check, activate, limit, confirm, pause, stop and revoke them."""

import argparse
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents.deploying import create_deployment
from agents.describe import agent_named
from agents.models import Deployment
from maxxit.core.commands import OpsCommand, by_option, confirm, count, operator, person_named
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.core.money import plain
from maxxit.core.terms import KILL_LEVELS, ExitPreset, KillLevel, Preset
from maxxit.reports.owners.waiting_entries import ExitLevel, WaitingEntry, waiting_entries
from trading.billing.payments import parse_amount
from trading.deployments import activation, confirmation, stops
from trading.deployments.describe import (
    deployment_data,
    deployment_numbered,
    deployments_data,
)
from trading.management.waiting import said_that_it_waits
from trading.models import Order
from trading.operations import change_requests, changes
from trading.operations.change_requests import Asker
from trading.second_person import Kind

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
        "limit": "set its owner's own limits, which only tighten the platform's",
        "ask": "let each entry wait for its owner's confirmation, or no longer",
        "waiting": "list the entries that wait for their owner's confirmation",
        "confirm": "say yes to a waiting entry",
        "decline": "say no to a waiting entry",
        "stop": "pull the kill switch of its account, as its owner",
        "release": "release what its owner pulled",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("list", "waiting"):
            parser.add_argument("--owner", help="only the deployments of this user")
        elif action in ("confirm", "decline"):
            parser.add_argument("order", type=count, help="id of the order, see `deployments waiting`")
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
            parser.add_argument("agent", help="id of the agent, its name, or owner/name")
            parser.add_argument("--owner", help="user name of its owner (default: the agent's)")
            parser.add_argument(
                "--capital",
                type=_usdc,
                help="USDC that a paper account starts with, or that its owner means to keep in the Safe",
            )
        else:
            parser.add_argument("deployment", type=count, help="its id")
            _add_changes(parser, action)
        if action not in ("list", "show", "check", "waiting"):
            by_option(parser)

    def run(self, **options: Any) -> Any:
        action = options["action"]
        steps = {"list": self._list, "waiting": self._waiting, "check": self._check, "create": self._create}
        if action in steps:
            return steps[action](options)
        if action in ("confirm", "decline"):
            return self._answer(options)
        deployment = deployment_numbered(options["deployment"])
        if action != "show":
            self._change(deployment, options, operator(options["by"]))
        data = deployment_data(deployment)
        return self.rows(data) if action == "show" else data

    def _change(self, deployment: Deployment, options: dict[str, Any], by: str) -> None:
        """Do what the subcommand says to one deployment."""
        action = options["action"]
        if action == "limit":
            self._limit(deployment, options, by)
        elif action == "ask":
            waiting = confirmation.ask(deployment, options["switch"] == "on", by=by)
            word = "wait" if deployment.confirm_entries else "do not wait"
            self.say(f"entries {word} for confirmation; {waiting} wait now", "SUCCESS")
        elif action == "stop":
            switch = stops.stop(deployment, options["level"], by=by, reason=options["reason"])
            self.say(f"latched: {switch.stops}", "ERROR")
        elif action == "release":
            for other in stops.release(deployment, by=by, reason=options["reason"]):
                self.say(f"still latched: {other.stops} ({other.reason})", "WARNING")
        else:
            sure = action != "revoke" or options["yes"] or confirm(f"Revoke {deployment} for good?")
            if not sure:
                raise CommandError("nothing was revoked: confirm with yes, or give --yes")
            moved = MOVES[action](deployment, by=by, why="command")
            self.say(
                f"deployment {deployment.pk} is {deployment.state}{'' if moved else ' already'}", "SUCCESS"
            )

    def _list(self, options: dict[str, Any]) -> Any:
        owner = options["owner"]
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

    def _create(self, options: dict[str, Any]) -> Any:
        agent = agent_named(options["agent"])
        owner = person_named(options["owner"]) if options["owner"] else agent.owner
        if owner is None:
            raise InvalidInput({"--owner": f"agent {agent} has no owner: name the deployment's"})
        deployment = create_deployment(agent, owner, by=operator(options["by"]), capital=options["capital"])
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

    def _waiting(self, options: dict[str, Any]) -> Any:
        owner, orders = options["owner"], Order.objects.all()
        if owner is not None:
            orders = orders.filter(deployment__owner_id=person_named(owner).pk)
        entries = waiting_entries(list(confirmation.waiting(orders)))
        self.table(
            (
                "order id", "agent", "account", "what", "share of capital", "stop loss (USD)", "take profit (USD)",
                "time exit (UTC)", "answer until (UTC)",
            ),
            [_row(entry) for entry in entries],
        )  # fmt: skip
        return [entry.as_json() for entry in entries]

    def _answer(self, options: dict[str, Any]) -> Any:
        number, action, by = options["order"], options["action"], operator(options["by"])
        order = Order.objects.filter(pk=number).first()
        if order is None:
            raise Rejected(f"no order {number}: `manage.py deployments waiting` lists them", code="not_found")
        for entry in waiting_entries(list(confirmation.waiting(Order.objects.filter(pk=number)))):
            self.say(_described(entry))
        answer = confirmation.confirm if action == "confirm" else confirmation.decline
        moved = answer(order, by=by)
        word = "confirmed" if action == "confirm" else "declined"
        self.say(f"order {number} is {word}{'' if moved else ' already'}", "SUCCESS")
        return {"order_id": number, "outcome": word, "new": moved}

    def _limit(self, deployment: Deployment, options: dict[str, Any], by: str) -> None:
        """Set the limits that were given. Raises InvalidInput naming each wrong one."""
        names = {"daily": "max_daily_usd", "position": "max_position_usd", "open": "max_open_positions"}
        given = {name: options[option] for option, name in names.items() if options[option] is not None}
        values = {name: None if value == "none" else value for name, value in given.items()}
        count = values.get("max_open_positions")
        if count is not None:
            if count != count.to_integral_value():
                raise InvalidInput({"--open": f"{count} is not a whole number"})
            values["max_open_positions"] = int(count)
        asked = change_requests.ask(
            Kind.RAISE_OWNER_LIMIT,
            changes.owner_limits_of(deployment, values),
            by=Asker(by),
            reason="manage.py deployments limit",
        )
        if asked.request:
            said_that_it_waits(self, asked.request)
            return
        deployment.refresh_from_db()
        for note in asked.result:
            self.say(note, "WARNING")
        for name in names.values():
            value = getattr(deployment, name)
            self.say(
                f"{name}: {'none' if value is None else f'{value:f}' if isinstance(value, Decimal) else value}"
            )


def _row(entry: WaitingEntry) -> tuple[object, ...]:
    exits, order = entry.exits, entry.order
    share = "" if entry.capital_share is None else f"{entry.capital_share * 100:.2f} %"
    stop, target, time_exit = ("", "", "") if exits is None else (
        _level(exits.stop_loss), _level(exits.take_profit), f"{exits.time_exit_at:%Y-%m-%d %H:%M}"
    )  # fmt: skip
    until = f"{order.signal.expires_at:%Y-%m-%d %H:%M:%S}" if order.signal else ""
    return (
        order.pk,
        order.deployment.agent.name,
        order.account,
        entry.action,
        share,
        stop,
        target,
        time_exit,
        until,
    )


def _level(level: ExitLevel) -> str:
    return f"{plain(level.price)} ({level.pct:+.2f} %)"


def _described(entry: WaitingEntry) -> str:
    """Return one entry in a sentence: what, size, exits, deadline."""
    _, _, _, what, share, stop, target, time_exit, until = _row(entry)
    size = f" ({share} of the capital)" if share else ""
    exits = f"; stop loss {stop}, take profit {target}, time exit {time_exit} UTC" if stop else ""
    return f"{what}{size}{exits}; answer until {until} UTC"


def _add_changes(parser: CommandParser, action: str) -> None:
    """Declare the options of a subcommand that changes one deployment."""
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
    if action == "limit":
        parser.add_argument("--daily", type=_limit, help="USD of the entries of a UTC day, or none")
        parser.add_argument("--position", type=_limit, help="USD of one position, or none")
        parser.add_argument("--open", type=_limit, help="tokens held at once, or none")
    if action == "ask":
        parser.add_argument(
            "switch", choices=("on", "off"), help="on: each entry waits for confirmation; off: none does"
        )


def _limit(text: str) -> Decimal | str:
    """argparse type: an amount above 0, or none."""
    return text if text == "none" else _usdc(text)


def _usdc(text: str) -> Decimal:
    """argparse type: an amount of USDC, see parse_amount."""
    try:
        return parse_amount(text)
    except Rejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error
