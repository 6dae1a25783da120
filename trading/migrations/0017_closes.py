"""The entry order that a closing order closes, as a column.

Until now the idempotency key of a closing order named its position: `close:<position>:<number>`.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

BACKFILL = """
UPDATE orders o SET closes_id = p.entry_order_id FROM positions p
WHERE o.purpose = 'close' AND split_part(o.idempotency_key, ':', 2) = p.id::text
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
