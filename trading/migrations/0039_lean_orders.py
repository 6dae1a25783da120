from django.db import migrations, models

DROP = """
DROP INDEX IF EXISTS orders_idempotency_key_c389c411_like;
DROP INDEX IF EXISTS orders_client_order_id_d083b1e1_like
"""
CREATE = """
CREATE INDEX orders_idempotency_key_c389c411_like ON orders (idempotency_key varchar_pattern_ops);
CREATE INDEX orders_client_order_id_d083b1e1_like ON orders (client_order_id varchar_pattern_ops)
"""


class Migration(migrations.Migration):
    """Drop three indexes of orders that nothing reads: each order writes an entry into every index.

    The foreign key of `signal` has an index of its own, and no query searches by the beginning of a key. The unique
    constraints stay as they are in the database; only Django's description of them changes.
    """

    dependencies = [
        ("trading", "0038_watched_addresses"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="order", name="orders_signal"),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="order",
                    name="idempotency_key",
                    field=models.CharField(
                        help_text="identifies the intended trade: one order per key", max_length=80
                    ),
                ),
                migrations.AlterField(
                    model_name="order",
                    name="client_order_id",
                    field=models.CharField(help_text="derived from the order id", max_length=80, null=True),
                ),
                migrations.AddConstraint(
                    model_name="order",
                    constraint=models.UniqueConstraint(
                        fields=["idempotency_key"], name="orders_idempotency_key_key"
                    ),
                ),
                migrations.AddConstraint(
                    model_name="order",
                    constraint=models.UniqueConstraint(
                        fields=["client_order_id"], name="orders_client_order_id_key"
                    ),
                ),
            ],
            database_operations=[migrations.RunSQL(DROP, CREATE)],
        ),
    ]
