"""Two groups that come with the program: `support` may look, `operators` may also act. Superusers may do all.

They are given their permissions after each migration, so that they know every table. For another set of permissions
make another group: what is taken from these two comes back.
"""

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

SUPPORT, OPERATORS = "support", "operators"
OURS = (
    "agents", "console", "events", "knowledge", "llm", "market", "notify", "pipeline", "positions", "signals_app",
    "trading",
)  # fmt: skip
SCHEDULE = "django_celery_beat"
MADE_BY_OPERATORS = {
    "agents": ("agent", "ctaccount", "subscription", "deployment"),
    "market": ("pricerule",),
    "signals_app": ("signal",),
    "trading": ("order",),
}
"""App -> models that operators may add rows of: by hand in the admin, or as a single step of the API."""


def grant(sender: AppConfig, using: str = "default", **_: Any) -> None:
    """Give both groups what they may do with the tables of one app (a receiver of `post_migrate`)."""
    if sender.label not in (*OURS, SCHEDULE):
        return
    create_permissions(sender, verbosity=0, using=using)
    support, operators = (
        Group.objects.using(using).get_or_create(name=name)[0] for name in (SUPPORT, OPERATORS)
    )
    known = Permission.objects.using(using).filter(content_type__app_label=sender.label)
    view, change = known.filter(codename__startswith="view_"), known.filter(codename__startswith="change_")
    made = [f"add_{model}" for model in MADE_BY_OPERATORS.get(sender.label, ())]
    support.permissions.add(*view)
    operators.permissions.add(*view, *change, *known.filter(codename__in=made))
