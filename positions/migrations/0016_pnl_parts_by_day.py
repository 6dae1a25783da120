"""Keep the platform's parts of the PnL by day too, so that a span is read from its days.

The positions that were rolled up before are rolled up again.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("positions", "0015_books_check")]

    operations = [
        migrations.RunSQL("DELETE FROM pnl_parts; DELETE FROM pnl_watermarks", migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="pnlpart", name="one_pnl_part"),
        migrations.AddField(
            model_name="pnlpart",
            name="day",
            field=models.DateField(
                help_text="UTC day of the close, of sums of the whole platform; empty: all time", null=True
            ),
        ),
        migrations.AddConstraint(
            model_name="pnlpart",
            constraint=models.UniqueConstraint(
                fields=("dimension", "deployment", "day", "key"), name="one_part_of_the_pnl", nulls_distinct=False
            ),
        ),
    ]
