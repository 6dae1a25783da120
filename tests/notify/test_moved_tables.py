"""The migration that moves price rules, matches and deliveries from `market` to `notify`: every row is kept."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maxxit.access.groups import OPERATORS
from maxxit.notify.models import PriceRule, RuleDelivery, RuleMatch

pytestmark = pytest.mark.django_db
BEFORE = [("market", "0006_history_indexes"), ("notify", "0004_history_indexes")]
MODELS = ("pricerule", "rulematch", "ruledelivery")
ROWS = """
INSERT INTO price_rules (id, rule_id, user_id, symbols, condition, threshold, window_seconds, channel, metadata, active,
                         created_at)
VALUES (1, 'r_00000001', %(user)s, '{BTC,ETH}', 'gt', 70000.5, NULL, 'webhook', '{"note": 1}', true, '2026-11-01Z'),
       (2, 'r_00000002', %(user)s, '{*}', 'change_pct', 10, 3600, 'inbox', '{}', false, '2026-11-02Z');
INSERT INTO rule_matches (id, rule_id, symbol, price, value, at, bucket)
SELECT n, 1 + n %% 2, 'BTC', 71000 + n, n, m.at, m.at
FROM generate_series(1, 30) AS n
CROSS JOIN LATERAL (SELECT timestamptz '2026-11-03Z' + make_interval(mins => 5 * n) AS at) AS m;
INSERT INTO rule_deliveries (id, match_id, rule_id, user_id, symbol, channel, bucket, at, due_at, state, attempts,
                             sent_at, last_error)
SELECT m.id + 100, m.id, m.rule_id, %(user)s, m.symbol, 'inbox', m.at, m.at, m.at,
       (ARRAY['pending', 'sent', 'dead'])[1 + m.id %% 3], m.id, m.at, 'error ' || m.id
FROM rule_matches m;
SELECT setval('price_rules_id_seq', 2);
SET CONSTRAINTS ALL IMMEDIATE
"""
TABLES = ("price_rules", "rule_matches", "rule_deliveries")


def migrate(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    ContentType.objects.clear_cache()
    return executor.loader.project_state(targets).apps


def stored() -> dict[str, list[Any]]:
    rows = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT t.id, t::text FROM {table} t ORDER BY t.id")
            rows[table] = cursor.fetchall()
    return rows


def granted(holder: Group | User) -> set[str]:
    rows = holder.permissions if isinstance(holder, Group) else holder.user_permissions
    return {f"{app}.{name}" for app, name in rows.values_list("content_type__app_label", "codename")}


def test_an_old_database_keeps_every_rule_match_delivery_and_permission() -> None:
    latest = [
        key for key in MigrationExecutor(connection).loader.graph.leaf_nodes() if key[0] in dict(BEFORE)
    ]
    ann = User.objects.create(username="ann")
    may_add = Permission.objects.get(content_type__app_label="notify", codename="add_pricerule")
    ann.user_permissions.add(may_add)

    old = migrate(BEFORE)
    assert set(ContentType.objects.filter(model__in=MODELS).values_list("app_label", flat=True)) == {"market"}
    assert granted(ann) == {"market.add_pricerule"}
    with connection.cursor() as cursor:
        for statement in ROWS.split(";\n"):
            cursor.execute(statement, {"user": ann.pk})
    rule = old.get_model("market", "PriceRule").objects.get(rule_id="r_00000001")
    assert (rule.matches.count(), rule.deliveries.count()) == (15, 15)
    before = stored()
    operators = granted(Group.objects.get(name=OPERATORS))

    migrate([("notify", "0006_plural_names") if key[0] == "notify" else key for key in latest])

    assert stored() == before
    migrate(latest)  # adds columns
    assert [len(rows) for rows in before.values()] == [2, 30, 30]
    assert PriceRule.objects.get(rule_id="r_00000001").deliveries.count() == 15
    assert RuleMatch.objects.filter(rule__user=ann, delivery__state="dead").count() == 10
    assert RuleDelivery.objects.filter(state="pending", user=ann).count() == 10
    assert set(ContentType.objects.filter(model__in=MODELS).values_list("app_label", "model")) == {
        ("notify", model) for model in MODELS
    }
    assert granted(ann) == {"notify.add_pricerule"}
    moved = {f"market.{action}_{model}" for action in ("view", "change", "add") for model in MODELS}
    assert granted(Group.objects.get(name=OPERATORS)) == {
        name.replace("market.", "notify.") if name in moved else name for name in operators
    }
    PriceRule.objects.create(user=ann, symbols=["BTC"], condition="any")  # the id sequence goes on
