"""Create and change agents: what each field may hold, checked field by field, and recorded with who changed it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from agents.evidence import EVIDENCE, weights_problem
from agents.fee_terms import check_fees
from agents.models import NAME_TAKEN, Agent
from agents.policy import policy
from agents.preferences import as_preferences, derive, preferences_problem
from agents.states import AgentState, DeploymentState
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected
from maxxit.core.money import plain
from maxxit.core.terms import ExitPreset, Preset
from maxxit.events.record import record
from maxxit.market.instruments import instrument, listed_on
from maxxit.market.venues import venue_policy

NAME_LENGTH = 60
SPACES = re.compile(r"\s+")
DERIVED = ("weights", "sizing_preset", "min_confidence")
"""What preferences set; a request gives either them or these."""


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """Fields of an agent that its owner may set; None leaves one as it is."""

    name: str | None = None
    venue: str | None = None
    """A name from config/venues.yaml."""
    tokens: Iterable[str] | None = None
    """Symbols; empty: all that the venue lists."""
    sizing_preset: str | None = None
    exit_preset: str | None = None
    min_confidence: Decimal | str | None = None
    """Fraction, 0 to 1: a weaker signal is declined."""
    volatility_target_pct: Decimal | str | None = None
    """Percent, 0.01 to 100: a token of higher forecast volatility is traded smaller; 0 for no target."""
    weights: Mapping[str, int] | None = None
    """Piece of evidence -> 0 to 100; one that is missing weighs 0."""
    preferences: Mapping[str, int] | None = None
    """The five preferences, each 0 to 100; one that is missing is 50. They set weights, sizing and confidence."""

    def given(self) -> dict[str, Any]:
        """Return the fields that are set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def create_agent(owner: AbstractBaseUser, changes: AgentChanges, *, by: str) -> Agent:
    """Create an agent of `owner` as a draft. Fields that are not given have the model's defaults.

    Raises InvalidInput for wrong fields, Rejected where the owner has as many agents as are allowed.
    """
    agent = Agent(owner_id=owner.pk)
    values = _checked(agent, changes, creating=True)
    with transaction.atomic():
        get_user_model()._default_manager.select_for_update(no_key=True).get(pk=owner.pk)
        most = policy().max_agents
        if (count := Agent.objects.filter(owner_id=owner.pk).count()) >= most:
            raise Rejected(
                f"{owner} has {count} agents, and {most} are allowed: change one of them instead",
                code="too_many_agents",
            )
        _apply(agent, values)
        _save(agent)
        record("agent.created", agent, by=by)
    return agent


def edit_agent(agent: Agent, changes: AgentChanges, *, by: str) -> dict[str, tuple[Any, Any]]:
    """Change an agent; return field -> (old, new) of what changed. Signals that exist already are not changed.

    Raises InvalidInput for wrong fields; the venue is fixed once a deployment has left the draft state.
    """
    with transaction.atomic():
        locked = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
        values = _checked(locked, changes, creating=False)
        changed = {
            name: (getattr(locked, name), value)
            for name, value in values.items()
            if getattr(locked, name) != value
        }
        if changed:
            _apply(locked, values)
            _save(locked)
            shown = {name: [_shown(old), _shown(new)] for name, (old, new) in changed.items()}
            record("agent.changed", locked, by=by, changes=shown)
    for name in values:
        setattr(agent, name, getattr(locked, name))
    return changed


def _shown(value: Any) -> Any:
    return plain(value) if isinstance(value, Decimal) else value


def _apply(agent: Agent, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(agent, name, value)


def _save(agent: Agent) -> None:
    """Save it. Raises InvalidInput for a name that is taken, and a venue that cannot take its fees."""
    try:
        check_fees(agent)
    except ValidationError as error:
        raise InvalidInput({"venue": " ".join(error.messages)}) from error
    try:
        with transaction.atomic():
            agent.save()
    except IntegrityError as error:
        if NAME_TAKEN not in str(error):
            raise
        raise InvalidInput(
            {"name": f"the owner has another agent named {agent.name!r}: choose another name"}
        ) from None


def _checked(agent: Agent, changes: AgentChanges, *, creating: bool) -> dict[str, Any]:
    """Return the fields to set with their values. Raises InvalidInput that names every wrong field."""
    given, problems, values = changes.given(), dict[str, str](), dict[str, Any]()
    if creating:
        given.setdefault("name", "")
    if "preferences" in given and (both := [name for name in DERIVED if name in given]):
        problems["preferences"] = f"give either preferences or {', '.join(both)}: preferences set them"
    for name, value in given.items():
        try:
            values |= _CHECKS[name](value)
        except ValueError as error:
            problems.setdefault(name, str(error))
    venue = values.get("venue", agent.venue)
    if not creating:
        problems |= _fixed(agent, values)
    if not problems:
        listed = set(listed_on(venue))
        if unlisted := [token for token in values.get("tokens", agent.tokens) if token not in listed]:
            problems["tokens"] = (
                f"{venue} does not list {', '.join(unlisted)}; it lists {', '.join(sorted(listed))}"
            )
    if problems:
        raise InvalidInput(problems)
    if "weights" in values and "preferences" not in values:
        values["preferences"] = {}
    return values


def _fixed(agent: Agent, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that may no longer change, each with the reason."""
    problems, venue = {}, values.get("venue", agent.venue)
    if venue != agent.venue and agent.deployments.exclude(state=DeploymentState.DRAFT).exists():
        problems["venue"] = f"a deployment trades at {agent.venue} already: create another agent for {venue}"
    if agent.state != AgentState.DRAFT and values.get("name", agent.name) != agent.name:
        problems["name"] = "it is fixed once the agent was activated: its decisions are recorded under it"
    return problems


def _name(given: Any) -> dict[str, Any]:
    name = SPACES.sub(" ", str(given)).strip()
    if not name:
        raise ValueError("enter a name")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"it has {len(name)} characters; {NAME_LENGTH} are allowed")
    if not name.isprintable():
        raise ValueError("use printable characters only")
    return {"name": name}


def _venue(given: Any) -> dict[str, Any]:
    try:
        venue_policy(given)
    except Misconfigured as error:
        raise ValueError(str(error)) from error
    return {"venue": given}


def _tokens(given: Any) -> dict[str, Any]:
    if isinstance(given, str) or not all(isinstance(token, str) for token in given):
        raise ValueError('enter a list of symbols, for example ["BTC", "ETH"]')
    try:
        symbols = [instrument(token.strip().upper()).symbol for token in given]
    except Misconfigured as error:
        raise ValueError(str(error)) from error
    return {"tokens": list(dict.fromkeys(symbols))}


def _preset(name: str, known: type[Preset] | type[ExitPreset]) -> Any:
    def check(given: Any) -> dict[str, Any]:
        if given not in set(known):
            raise ValueError(f"no preset {given!r}; known: {', '.join(known)}")
        return {name: str(given)}

    return check


def _min_confidence(given: Any) -> dict[str, Any]:
    try:
        value = Decimal(str(given))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value <= 1):
        raise ValueError(f"{given} is not a fraction from 0 to 1: 0.5 means 50 %")
    return {"min_confidence": value.quantize(Decimal("0.000001"))}


def _volatility_target(given: Any) -> dict[str, Any]:
    try:
        value = Decimal(str(given))
    except InvalidOperation:
        value = Decimal("NaN")
    if value == 0:
        return {"volatility_target_pct": None}
    if not (value.is_finite() and Decimal("0.01") <= value <= 100):
        raise ValueError(f"{given} is not a percentage from 0.01 to 100, or 0 for no target")
    return {"volatility_target_pct": value.quantize(Decimal("0.01"))}


def _weights(given: Any) -> dict[str, Any]:
    if problem := weights_problem(given):
        raise ValueError(problem)
    weights = {name: int(given.get(name, 0)) for name in EVIDENCE}
    if not any(weights.values()):
        raise ValueError(
            "every weight is 0, so that no signal would be made: give one piece of evidence a weight"
        )
    return {"weights": weights}


def _preferences(given: Any) -> dict[str, Any]:
    if problem := preferences_problem(given):
        raise ValueError(problem)
    preferences = as_preferences(given)
    derived = derive(preferences)
    return {
        "preferences": preferences.as_json(),
        "weights": derived.weights,
        "sizing_preset": str(derived.sizing_preset),
        "min_confidence": derived.min_confidence.quantize(Decimal("0.000001")),
    }


_CHECKS: dict[str, Any] = {
    "name": _name,
    "venue": _venue,
    "tokens": _tokens,
    "sizing_preset": _preset("sizing_preset", Preset),
    "exit_preset": _preset("exit_preset", ExitPreset),
    "min_confidence": _min_confidence,
    "volatility_target_pct": _volatility_target,
    "weights": _weights,
    "preferences": _preferences,
}
"""Field -> the function that returns what it sets. Each raises ValueError with what is wrong."""
