"""Which changes need a second person (`config/approvals.yaml`), and which venues trade real money."""

from enum import StrEnum
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from maxxit.core.config import Policy, load
from maxxit.core.errors import MaxxitError
from maxxit.market.venues import VenuePolicy, venues
from trading import wiring

SECOND_PERSON = "second_person"


class Kind(StrEnum):
    """Kinds of changes that raise risk. Each is a key of config/approvals.yaml."""

    OPEN_GATE = "open_gate"
    APPROVE_ORDERS = "approve_orders"
    RAISE_LIMIT = "raise_limit"
    RAISE_OWNER_LIMIT = "raise_owner_limit"


class OnePerson(Policy):
    """The written decision that one person suffices."""

    one_person: Annotated[str, StringConstraints(strip_whitespace=True, min_length=20, max_length=300)]
    """Why, and who decided it."""


Rule = Literal["second_person"] | OnePerson


class ApprovalPolicy(Policy):
    """The contents of config/approvals.yaml."""

    open_gate: Rule
    approve_orders: Rule
    raise_limit: Rule
    raise_owner_limit: Rule
    expires_after_hours: Annotated[int, Field(ge=1, le=168)]


@cache
def policy() -> ApprovalPolicy:
    """Return the policy. Raises `Misconfigured` naming the missing or wrong key."""
    return load("approvals", ApprovalPolicy)


def one_person(kind: Kind) -> str:
    """Return the written reason why one person may make changes of `kind`; empty where a second one is needed."""
    rule: Rule = getattr(policy(), kind)
    return rule.one_person if isinstance(rule, OnePerson) else ""


def trades_real_money(venue: VenuePolicy) -> bool:
    """Return whether a venue trades real money; True where that cannot be told."""
    try:
        return wiring.money_at_stake(venue) == wiring.REAL_MONEY
    except MaxxitError:
        return True


def real_money_venues() -> list[str]:
    """Return the names of the configured venues that trade real money."""
    return [name for name, venue in venues().items() if trades_real_money(venue)]
