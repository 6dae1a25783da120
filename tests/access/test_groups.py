"""Both groups of staff have their permissions on the tables of every app."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group

from maxxit.access import groups

PACKAGES = ("maxxit.", "agents", "signals_app", "trading", "positions")


def test_no_app_with_tables_is_left_out() -> None:
    ours = {app.label for app in apps.get_app_configs() if app.name.startswith(PACKAGES) and app.models}
    assert ours == set(groups.OURS)


@pytest.mark.django_db
@pytest.mark.parametrize("name", [groups.SUPPORT, groups.OPERATORS])
def test_staff_sees_the_rows_of_every_app(name: str) -> None:
    held = Group.objects.get(name=name).permissions.filter(codename__startswith="view_")
    assert set(held.values_list("content_type__app_label", flat=True)) == {*groups.OURS, groups.SCHEDULE}
