"""Whose rows are whose. Staff sees all; everybody else sees what their agents decided and their purses did.

A row of somebody else does not exist: filter with `visible` first, then look it up, and it is a 404.
"""

from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Model, Q, QuerySet

M = TypeVar("M", bound=Model)
Person = AbstractBaseUser | AnonymousUser | None
"""None is the machine itself, on the command line: it sees all."""

RULES = {
    "agents.agent": ("owner", "deployments__owner"),
    "agents.deployment": ("owner",),
    "signals_app.ctpost": (
        "account__subscriptions__agent__owner",
        "account__subscriptions__agent__deployments__owner",
    ),
    "signals_app.signal": ("agent__owner", "agent__deployments__owner"),
    "trading.order": ("deployment__owner",),
    "trading.fill": ("order__deployment__owner",),
    "trading.ledgerentry": ("order__deployment__owner",),
    "positions.position": ("deployment__owner",),
    "console.apikey": ("owner",),
    "market.pricerule": ("user",),
    "market.ruledelivery": ("user",),
}
"""Model -> the ways from it to its owner; any of them will do. A model that is not here is nobody's."""


def sees_all(person: Person) -> bool:
    """The machine itself, and staff."""
    return person is None or bool(getattr(person, "is_staff", False) and getattr(person, "is_active", False))


def visible(rows: QuerySet[M], person: Person) -> QuerySet[M]:
    """Those of `rows` that `person` may see."""
    if sees_all(person):
        return rows
    ways = RULES.get(rows.model._meta.label_lower, ())
    if not ways or person is None or not person.is_authenticated:
        return rows.none()
    mine = Q()
    for way in ways:
        mine |= Q(**{way: person.pk})
    wanted: QuerySet[Any] = rows.model._default_manager.filter(mine).values("pk")
    return rows.filter(pk__in=wanted)
