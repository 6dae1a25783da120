"""The migration that encrypts addresses: each standing webhook still works."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maxxit.notify import endpoints
from maxxit.notify.models import Endpoint

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.com/maxxit/token-1234"


def migrate(name: str) -> None:
    MigrationExecutor(connection).migrate([("notify", name)])


def test_an_address_is_encrypted_and_opens() -> None:
    ann = User.objects.create(username="ann")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        latest = max(
            name for app, name in MigrationExecutor(connection).loader.graph.leaf_nodes() if app == "notify"
        )
        migrate("0008_accounts_kind")
        cursor.execute(
            "INSERT INTO notify_endpoints (user_id, channel, address, salt, active, created_at) "
            "VALUES (%s, 'webhook', %s, 'salt', true, '2026-11-01Z')",
            [ann.pk, URL],
        )
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        migrate(latest)
        cursor.execute("SELECT string_agg(n::text, '') FROM notify_endpoints n")
        assert "token-1234" not in cursor.fetchone()[0]
    row = Endpoint.objects.get()
    assert endpoints.open_address(row) == URL
    assert (row.hint, row.verified_at) == ("hooks.example.com/…1234", row.created_at)
