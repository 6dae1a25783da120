"""The database of a replay or measurement: its own, and gone afterwards unless it is kept."""

import pytest
from django.db import connection

from maxxit.embedded import scratch


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keep", [True, False])
def test_a_scratch_database_is_dropped_unless_it_is_kept(keep: bool) -> None:
    live = connection.settings_dict["NAME"]
    with scratch._on_same_server(keep, durable=False) as location, connection.cursor() as cursor:
        name = location.removeprefix("database ")
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (name,) != (live,)

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), count(*) FROM pg_database WHERE datname = %s", [name])
        database, kept = cursor.fetchone()
        cursor.execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(name)}")
    assert (database, kept) == (live, int(keep))
