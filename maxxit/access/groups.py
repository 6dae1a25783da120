"""The built-in groups: `support` may view, `operators` may also act, `risk officers` may view and approve what others
ask for, `customers` reach their own rows alone.

Superusers may do everything.

Their permissions are granted after each migration, so that they cover every table. For other permissions create
another group: a permission removed from these three is granted again.
"""

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

SUPPORT, OPERATORS, CUSTOMERS = "support", "operators", "customers"
RISK_OFFICERS = "risk officers"
OURS = (
    "agents", "backtest", "bus", "chat", "console", "events", "knowledge", "learning", "llm", "market", "notify",
    "pipeline", "positions", "replay", "signals_app", "trading",
)  # fmt: skip
SCHEDULE = "django_celery_beat"
ADDED_BY_OPERATORS = {
    "console": ("invitation",),
    "agents": ("agent", "ctaccount", "subscription", "deployment"),
    "notify": ("pricerule",),
    "replay": ("preview",),
    "signals_app": ("signal",),
    "trading": ("order", "watchedaddress"),
}
"""App -> models that operators may add rows of, in the admin or by the API."""


def grant(sender: AppConfig, using: str = "default", **_: Any) -> None:
    """Grant the staff groups their permissions on the tables of one app (receiver of `post_migrate`)."""
    if sender.label not in (*OURS, SCHEDULE):
        return
    create_permissions(sender, verbosity=0, using=using)
    support, operators, officers = (
        Group.objects.using(using).get_or_create(name=name)[0] for name in (SUPPORT, OPERATORS, RISK_OFFICERS)
    )
    known = Permission.objects.using(using).filter(content_type__app_label=sender.label)
    view, change = known.filter(codename__startswith="view_"), known.filter(codename__startswith="change_")
    addable = [f"add_{model}" for model in ADDED_BY_OPERATORS.get(sender.label, ())]
    support.permissions.add(*view)
    officers.permissions.add(*view, *known.filter(codename="approve_changerequest"))
    operators.permissions.add(*view, *change, *known.filter(codename__in=addable))
    if sender.label == "console":
        Group.objects.using(using).get_or_create(name=CUSTOMERS)
