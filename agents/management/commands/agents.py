"""`manage.py agents list | show | create | edit | activate | pause`."""

from typing import Any

from django.core.management.base import CommandParser

from agents import lifecycle
from agents.changes import AgentChanges, create_agent, edit_agent
from agents.describe import agent_data, agent_named
from agents.evidence import EVIDENCE
from agents.models import Agent
from agents.preferences import NAMES
from agents.states import AgentState
from maxxit.core.commands import OpsCommand, by_option, operator, person_named
from maxxit.core.errors import InvalidInput
from maxxit.core.terms import ExitPreset, Preset

STATES = {"activate": AgentState.ACTIVE, "pause": AgentState.PAUSED}


class Command(OpsCommand):
    help = "List, show, create and change agents: what they trade, how they weigh evidence and size orders."
    subcommands = {
        "list": "list agents",
        "show": "show one agent with the accounts that it follows",
        "create": "create an agent as a draft",
        "edit": "change an agent; signals that exist already stay as they are",
        "activate": "let an agent make signals",
        "pause": "let an agent make no more signals; open positions keep their exits",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            parser.add_argument("--owner", help="only the agents of this user")
            return
        if action == "create":
            parser.add_argument("owner", help="user name of its owner")
            parser.add_argument("name", help="its name, which no other agent of the owner has")
        else:
            parser.add_argument("agent", help="its id or name")
        if action in ("create", "edit"):
            _add_fields(parser, action)
        if action != "show":
            by_option(parser)

    def run(self, **options: Any) -> Any:
        action = options["action"]
        if action == "list":
            return self._list(options["owner"])
        if action == "create":
            changes = _changes(options)
            agent = create_agent(person_named(options["owner"]), changes, by=operator(options["by"]))
            self.say(
                f"agent {agent.pk} ({agent}) is a draft: `manage.py follow {agent.pk} ACCOUNT …`", "SUCCESS"
            )
            return agent_data(agent)
        agent = agent_named(options["agent"])
        if action == "edit":
            changed = edit_agent(agent, _changes(options), by=operator(options["by"]))
            for name, (old, new) in changed.items():
                self.say(f"{name}: {old} → {new}")
            self.say("" if changed else "nothing changed")
        elif action in STATES:
            moved = lifecycle.change_state(agent, STATES[action], by=operator(options["by"]), why="command")
            self.say(f"agent {agent.pk} ({agent}) is {agent.state}{'' if moved else ' already'}", "SUCCESS")
        return agent_data(agent) if action != "show" else self.rows(agent_data(agent))

    def _list(self, owner: str | None) -> Any:
        rows = Agent.objects.select_related("owner").prefetch_related("subscriptions__account").order_by("pk")
        if owner is not None:
            rows = rows.filter(owner_id=person_named(owner).pk)
        data = [agent_data(agent) for agent in rows]
        self.table(
            ("id", "name", "owner", "state", "venue", "sizing", "exits", "follows"),
            [
                (
                    row["id"],
                    row["name"],
                    row["owner"],
                    row["status"],
                    row["venue"],
                    row["sizing_preset"],
                    row["exit_preset"],
                    len(row["follows"]),
                )
                for row in data
            ],
        )
        return data


def _add_fields(parser: CommandParser, action: str) -> None:
    """Declare an option for each field that an owner may set."""
    if action == "edit":
        parser.add_argument("--name", help="a new name")
    parser.add_argument("--venue", help="a name from config/venues.yaml")
    parser.add_argument("--tokens", nargs="*", help="symbols that it may trade; none: all of its venue")
    parser.add_argument("--sizing", choices=list(Preset), help="sizing preset")
    parser.add_argument("--exits", choices=list(ExitPreset), help="exit preset")
    parser.add_argument("--min-confidence", help="fraction: weaker signals are declined")
    parser.add_argument(
        "--volatility-target",
        metavar="PCT",
        help="percent: a token of higher forecast volatility is traded smaller (docs/models.md); 0 for no target",
    )
    parser.add_argument(
        "--weight",
        action="append",
        metavar="PIECE=N",
        help=f"0 to 100, for {', '.join(EVIDENCE)}; others weigh 0",
    )
    parser.add_argument(
        "--preference",
        action="append",
        metavar="NAME=N",
        help=f"0 to 100, for {', '.join(NAMES)}; they set weights, sizing and least confidence",
    )


def _changes(options: dict[str, Any]) -> AgentChanges:
    return AgentChanges(
        name=options["name"],
        venue=options["venue"],
        tokens=options["tokens"],
        sizing_preset=options["sizing"],
        exit_preset=options["exits"],
        min_confidence=options["min_confidence"],
        volatility_target_pct=options["volatility_target"],
        weights=_numbers("weight", options["weight"]),
        preferences=_numbers("preference", options["preference"]),
    )


def _numbers(option: str, given: list[str] | None) -> dict[str, int] | None:
    """Parse NAME=N pairs. Raises InvalidInput naming the option."""
    if given is None:
        return None
    numbers = {}
    for pair in given:
        name, sign, number = pair.partition("=")
        if not sign or not number.isascii() or not number.isdigit():
            raise InvalidInput({f"--{option}": f"{pair!r} is not NAME=N with a whole number from 0 to 100"})
        numbers[name] = int(number[:6])
    return numbers
