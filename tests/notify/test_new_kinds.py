"""The migration that adds kinds of notifications: every choice gets them, also those for single channels."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maxxit.notify.models import NotificationSettings

pytestmark = pytest.mark.django_db
BEFORE, AFTER = ("notify", "0013_alerted_events"), ("notify", "0014_kinds_of_trades")
NEW = {"trades", "losses", "authors", "twins"}


def migrate(*targets: tuple[str, str]) -> None:
    MigrationExecutor(connection).migrate(list(targets))


def test_each_choice_of_kinds_gets_the_new_ones_and_an_empty_one_stays_empty() -> None:
    latest = [key for key in MigrationExecutor(connection).loader.graph.leaf_nodes() if key[0] == "notify"]
    choices = {
        "telegram": {"severity": "info", "kinds": ["stops"]},
        "slack": {"severity": "critical", "kinds": []},
        "email": {"severity": "warning"},
    }
    rows = [
        NotificationSettings(user=User.objects.create(username="ann"), kinds=["limits"], by_channel=choices),
        NotificationSettings(user=User.objects.create(username="bob"), kinds=[]),
    ]
    NotificationSettings.objects.bulk_create(rows)
    migrate(BEFORE)
    with connection.cursor() as cursor:
        # As the settings were before: the way back takes the new kinds out.
        cursor.execute("SELECT count(*) FROM notification_settings WHERE kinds && %s::varchar[]", [list(NEW)])
        assert cursor.fetchone() == (0,)
    migrate(AFTER)
    migrate(*latest)
    ann, bob = NotificationSettings.objects.order_by("pk")
    assert set(ann.kinds) == {"limits", *NEW}
    assert set(ann.by_channel["telegram"]["kinds"]) == {"stops", *NEW}
    assert ann.by_channel["slack"] == choices["slack"], "it was switched off"
    assert ann.by_channel["email"] == choices["email"], "it gets what all channels get"
    assert (bob.kinds, bob.by_channel) == ([], {})
