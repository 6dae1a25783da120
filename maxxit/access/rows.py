"""Row-level access control: staff see all rows of the models that they may view; users see their own.

A user's own rows are the decisions of their agents and the activity of their deployments. Filter with `visible`
before looking a row up, so that another user's row is a 404.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Model, Q, QuerySet

from agents.models import Deployment

M = TypeVar("M", bound=Model)
Person = AbstractBaseUser | AnonymousUser | None
"""None stands for the command line, which sees all rows."""

OWNER_PATHS = {
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
    "trading.billingevent": ("deployment:owner",),
    "positions.position": ("deployment:owner",),
    "console.apikey": ("owner",),
    "console.idempotentrequest": ("owner",),
    "replay.preview": ("owner",),
    "notify.pricerule": ("user",),
    "notify.ruledelivery": ("user",),
    "trading.watchedaddress": ("user",),
}
"""Model -> lookup paths to its owner, any of which grants access. Only staff see a model that is not listed.

The part before a colon leads to a table with few rows per user: their ids are read first, so that a table of
millions of rows is filtered by the index on that column.
"""


def sees_all(person: Person, model: type[Model]) -> bool:
    """Return whether `person` sees every row of `model`: staff with Django's view permission, and the command line."""
    if person is None:
        return True
    wanted = f"{model._meta.app_label}.view_{model._meta.model_name}"
    staff: Any = person
    return bool(getattr(person, "is_staff", False) and staff.has_perm(wanted))


def visible(rows: QuerySet[M], person: Person) -> QuerySet[M]:
    """Return those of `rows` that `person` may see."""
    return rows if sees_all(person, rows.model) else owned(rows, person)


def owned(rows: QuerySet[M], person: Person, paths: tuple[str, ...] | None = None) -> QuerySet[M]:
    """Return those of `rows` that belong to `person`, by the lookup paths of the model unless others are given."""
    if paths is None:
        paths = OWNER_PATHS.get(rows.model._meta.label_lower, ())
    if not paths or person is None or not person.is_authenticated:
        return rows.none()
    if ":" not in paths[0]:
        owned = Q()
        for path in paths:
            owned |= Q(**{path: person.pk})
        ids_owned: QuerySet[Any] = rows.model._default_manager.filter(owned).values("pk")
        return rows.filter(pk__in=ids_owned)
    near = paths[0].partition(":")[0]
    model = _model_at(rows.model, near)
    found = [
        model._default_manager.order_by()
        .filter(**{path.partition(":")[2]: person.pk})
        .values_list("pk", flat=True)
        for path in paths
    ]
    return rows.filter(**{f"{near}__in": sorted(found[0].union(*found[1:]))})


def visible_subjects(subjects: Iterable[str], person: Person) -> set[str] | None:
    """Return those of the rows that events name (`app.model/id`) which `person` may see; None: all of them.

    Staff with the permission to view events see all events; others those of their own rows.
    """
    if sees_all(person, apps.get_model("events.event")):
        return None
    by_model: dict[str, set[int]] = {}
    for subject in subjects:
        label, _, pk = subject.partition("/")
        if label in OWNER_PATHS and pk.isascii() and pk.isdigit():
            by_model.setdefault(label, set()).add(int(pk))
    return {
        f"{label}/{pk}"
        for label, ids in by_model.items()
        for pk in owned(apps.get_model(label)._default_manager.filter(pk__in=ids), person).values_list(
            "pk", flat=True
        )
    }


FIGURES = ("agents.deployment", "trading.order", "trading.fill", "positions.position")
"""What performance figures are computed from."""


def deployments_of(person: Person) -> list[int] | None:
    """Return the ids of the deployments whose figures `person` may see; None: those of the whole platform.

    Staff needs the permission to view deployments, orders, fills and positions for the platform's.
    """
    if all(sees_all(person, apps.get_model(label)) for label in FIGURES):
        return None
    return list(owned(Deployment.objects.all(), person).values_list("pk", flat=True))


def _model_at(model: type[Model], path: str) -> type[Model]:
    """Return the model at the end of the foreign-key path `path`."""
    for name in path.split("__"):
        model = model._meta.get_field(name).related_model  # type: ignore[assignment]
    return model
