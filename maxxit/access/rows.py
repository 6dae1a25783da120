"""Row-level access: staff sees all rows of the models that they may view; everybody else sees their own.

One's own are what one's agents decided and one's deployments did.

A row of somebody else does not exist: filter with `visible` first, then look it up, and it is a 404.
"""

from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Model, Q, QuerySet

M = TypeVar("M", bound=Model)
Person = AbstractBaseUser | AnonymousUser | None
"""None is the machine itself, on the command line: it sees all."""

RULES = {
    "agents.agent": ("owner", "deployments__owner"),
    "agents.deployment": ("owner",),
    "signals_app.ctpost": (
        "account:subscriptions__agent__owner",
        "account:subscriptions__agent__deployments__owner",
    ),
    "signals_app.signal": ("agent:owner", "agent:deployments__owner"),
    "trading.order": ("deployment:owner",),
    "trading.fill": ("order__deployment:owner",),
    "trading.ledgerentry": ("order__deployment:owner",),
    "positions.position": ("deployment:owner",),
    "console.apikey": ("owner",),
    "market.pricerule": ("user",),
    "market.ruledelivery": ("user",),
}
"""Model -> the ways from it to its owner; any of them will do. A model that is not here is nobody's.

Before a colon stands the way to a table with few rows of a person: their ids are read first, so that a list of
millions of rows is looked up by the index on that column.
"""


def sees_all(person: Person, model: type[Model]) -> bool:
    """Whether `person` sees every row of `model`: the machine itself, and staff with Django's view permission."""
    if person is None:
        return True
    wanted = f"{model._meta.app_label}.view_{model._meta.model_name}"
    staff: Any = person
    return bool(getattr(person, "is_staff", False) and staff.has_perm(wanted))


def visible(rows: QuerySet[M], person: Person) -> QuerySet[M]:
    """Those of `rows` that `person` may see."""
    if sees_all(person, rows.model):
        return rows
    ways = RULES.get(rows.model._meta.label_lower, ())
    if not ways or person is None or not person.is_authenticated:
        return rows.none()
    if ":" not in ways[0]:
        mine = Q()
        for way in ways:
            mine |= Q(**{way: person.pk})
        wanted: QuerySet[Any] = rows.model._default_manager.filter(mine).values("pk")
        return rows.filter(pk__in=wanted)
    ids: set[int] = set()
    for way in ways:
        near, _, owner = way.partition(":")
        model = _model_at(rows.model, near)
        ids.update(model._default_manager.filter(**{owner: person.pk}).values_list("pk", flat=True))
    return rows.filter(**{f"{near}__in": sorted(ids)})


FIGURES = ("agents.deployment", "trading.order", "trading.fill", "positions.position")
"""What performance figures are computed from."""


def deployments_of(person: Person) -> list[int] | None:
    """The ids of the deployments whose figures `person` may see; None: those of the whole platform.

    Staff needs the permission to view deployments, orders, fills and positions for the platform's.
    """
    if all(sees_all(person, apps.get_model(label)) for label in FIGURES):
        return None
    mine = Q(owner=getattr(person, "pk", None))
    return list(apps.get_model("agents.deployment").objects.filter(mine).values_list("pk", flat=True))


def _model_at(model: type[Model], path: str) -> type[Model]:
    """The model that the foreign keys of `path` lead to."""
    for name in path.split("__"):
        model = model._meta.get_field(name).related_model  # type: ignore[assignment]
    return model
