"""The entry order that a closing order closes, as a column.

Until now the idempotency key of a closing order named its position: `close:<position>:<number>`. The table is rewritten,
as in 0016: an UPDATE would write every index of every closing order.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

BACKFILL = """
CREATE FUNCTION pg_temp.entry_closed_by(purpose text, key text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF purpose <> 'close' THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT entry_order_id FROM positions WHERE id = split_part(key, ':', 2)::bigint);
END $$;
ALTER TABLE orders ALTER closes_id TYPE bigint USING pg_temp.entry_closed_by(purpose, idempotency_key);
DROP FUNCTION pg_temp.entry_closed_by;
"""


def closes(*, db_constraint: bool) -> models.Field:
    return models.ForeignKey(
        "trading.order",
        django.db.models.deletion.PROTECT,
        null=True,
        db_index=False,
        db_constraint=db_constraint,
        related_name="closing_orders",
        help_text="of a closing order: the entry order of the position that it closes",
    )


class Migration(migrations.Migration):
    dependencies = [("trading", "0016_ledger_columns"), ("positions", "0001_initial")]
    operations = [
        migrations.AddField("order", "closes", closes(db_constraint=False)),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        migrations.AlterField("order", "closes", closes(db_constraint=True)),
        migrations.AddConstraint(
            "order",
            models.CheckConstraint(
                name="a_closing_order_names_the_entry",
                condition=Q(purpose="open", closes=None) | Q(purpose="close", closes__isnull=False),
            ),
        ),
        migrations.AddIndex(
            "order",
            models.Index(fields=["closes"], name="orders_closes", condition=Q(closes__isnull=False)),
        ),
    ]
