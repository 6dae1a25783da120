"""The migration from eight columns of weights to one map."""

import json
from importlib import import_module

from django.db import connection

migration = import_module("agents.migrations.0005_weights")


def test_the_migration_keeps_every_value_both_ways(db: None) -> None:
    weights = {name: 7 * (at + 1) for at, name in enumerate(migration.PIECES)}
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA old; SET LOCAL search_path TO old")
        columns = ", ".join(f"weight_{name} smallint" for name in migration.PIECES)
        cursor.execute(f"CREATE TABLE agents ({columns}, weights jsonb)")
        values = ", ".join(map(str, weights.values()))
        cursor.execute(f"INSERT INTO agents VALUES ({values}, NULL)")

        cursor.execute(migration.INTO_THE_MAP)
        cursor.execute("SELECT weights::text FROM agents")
        [[stored]] = cursor.fetchall()
        assert json.loads(stored) == weights

        cursor.execute(f"UPDATE agents SET {', '.join(f'weight_{name} = 0' for name in weights)}")
        cursor.execute(migration.INTO_THE_COLUMNS)
        cursor.execute(f"SELECT {', '.join(f'weight_{name}' for name in weights)} FROM agents")
        assert cursor.fetchall() == [tuple(weights.values())]
