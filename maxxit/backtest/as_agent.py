"""Make an agent's draft of the settings of a stored run. It loads no numpy."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AbstractBaseUser

from agents.changes import AgentChanges, create_agent
from agents.models import Agent
from maxxit.backtest.models import BacktestRun, Kind
from maxxit.backtest.runs import details_of
from maxxit.backtest.settings import set_of_agent
from maxxit.core.errors import Misconfigured, Rejected

FIELDS = ("venue", "tokens", "sizing_preset", "exit_preset", "min_confidence", "weights")
"""Settings of a taped agent that an agent has as well."""
LEFT_OUT: Mapping[str, str] = {
    "venues": "an option of the venue, the same for all agents (config/venues.yaml)",
    "generate": "how signals are made for all agents (config/signals.yaml)",
    "exits": "the values of an exit preset, which all agents with it share (config/exits.yaml)",
    "sizing": "the values of a sizing preset, which all agents with it share (config/risk.yaml)",
}
"""First part of a key -> why an agent cannot have it."""
OF_PLATFORM = "a limit of the platform (config/risk.yaml)"
OF_ANOTHER = "a setting of another agent"
OF_FEES = "a fee, which staff set in the admin"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A setting of the run that the agent does not have."""

    key: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What an agent of a run's settings would be."""

    agent: str
    """The agent on the tape whose settings these are."""
    settings: Mapping[str, Any]
    """By field of `FIELDS`."""
    changed: list[str]
    """Keys of the run that are in the settings."""
    left_out: list[LeftOut]
    notes: list[str]
    """What else a reader has to know, each a sentence."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the settings as texts for people."""
        return [(name.replace("_", " "), _text(self.settings[name])) for name in FIELDS]

    def as_json(self) -> dict[str, Any]:
        """Return the draft for programs."""
        left_out = [{"key": one.key, "value": one.value, "why": one.why} for one in self.left_out]
        return {"of": self.agent, "settings": dict(self.settings), "left_out": left_out, "notes": self.notes}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return (", ".join(value) or "all of the venue") if isinstance(value, list) else str(value)


def agents_of(run: BacktestRun) -> list[str]:
    """Return the names of the agents on the run's tape."""
    return [one["name"] for one in run.tape.agents]


def settings_of(run: BacktestRun, place: int | None = None) -> Mapping[str, str]:
    """Return the settings of a run: of a sweep the best, or those of a place in its order, of a walk-forward the last.

    Raises Rejected (`no_settings`) for a run without a result, or a place that there is not.
    """
    if run.error:
        raise Rejected(f"run {run.pk} has no result: {run.error}", code="no_settings")
    if run.kind == Kind.RUN:
        found: list[Mapping[str, str]] = [run.changes]
    elif run.kind == Kind.WALK_FORWARD:
        found = [one["changes"] for one in reversed(details_of(run)["windows"])]
    else:
        found = [one["changes"] for one in details_of(run)["tried"]]
    number = place or 0
    if number >= len(found):
        raise Rejected(
            f"run {run.pk} has {len(found)} settings, and no number {number + 1}", code="no_settings"
        )
    return found[number]


def draft_of(run: BacktestRun, agent: str = "", place: int | None = None) -> Draft:
    """Return the draft of an agent with the settings of a run.

    Args:
        agent: a name on the tape; empty where there is only one.
        place: of a setting of a sweep, 0 the best; of a window of a walk-forward, 0 the last.

    Raises:
        Rejected: no such agent (`no_agent`) or setting (`no_settings`).
    """
    changes, known = settings_of(run, place), {one["name"]: one for one in run.tape.agents}
    if not agent and len(known) == 1:
        [agent] = known
    if agent not in known:
        raise Rejected(f"name an agent of the tape: {', '.join(known)}", code="no_agent")
    values = {agent: copy.deepcopy(known[agent])}
    changed, left_out = [], []
    for key, value in sorted(changes.items()):
        if why := _why_not(key, agent):
            left_out.append(LeftOut(key, value, why))
            continue
        try:
            set_of_agent(values, key, key.partition(".")[2], value)
        except Misconfigured as error:  # the settings of an older release
            left_out.append(LeftOut(key, value, str(error)))
        else:
            changed.append(key)
    follows = known[agent]["follows"]
    notes = [
        f"On the tape it follows {follows} account{'' if follows == 1 else 's'}, of which the tape knows numbers "
        "alone: add the accounts on the agent's page.",
        "Fees, accounts and capital are not taken over. Limits and presets are those in force here, not those of the "
        "tape.",
        "The settings were chosen after the prices were known.",
    ]
    return Draft(agent, {name: values[agent][name] for name in FIELDS}, changed, left_out, notes)


def _why_not(key: str, agent: str) -> str:
    """Return why an agent cannot have a setting; empty where it can."""
    root, _, rest = key.partition(".")
    if root != "agents":
        return LEFT_OUT.get(root, OF_PLATFORM)
    if not rest.startswith(f"{agent}."):
        return OF_ANOTHER
    return OF_FEES if rest == f"{agent}.profit_share" else ""


def save_as_agent(run: BacktestRun, draft: Draft, name: str, owner: AbstractBaseUser, *, by: str) -> Agent:
    """Create an agent of `owner` with the settings of a draft, in the state draft: it trades nothing.

    Raises InvalidInput for a name that is taken or a setting that this platform does not take, Rejected where the owner
    has as many agents as are allowed.
    """
    values = dict(draft.settings) | {"min_confidence": Decimal(draft.settings["min_confidence"])}
    return create_agent(owner, AgentChanges(name=name or name_of(run, draft), **values), by=by)


def name_of(run: BacktestRun, draft: Draft) -> str:
    """Return the name that an agent of a draft gets without another."""
    return f"{draft.agent[:40]} of backtest {run.pk}"
