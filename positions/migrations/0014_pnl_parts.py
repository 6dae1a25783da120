"""Keep cumulated parts of the PnL, written by a pass of their own, in place of sums by day that a trigger wrote.

The triggers on positions go: a position closes without them. The first passes roll up the positions that have closed.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

single = import_module("positions.migrations.0007_history_indexes")
by_statement = import_module("positions.migrations.0011_daily_results_by_statement")

DROP = """
DROP FUNCTION add_daily_results CASCADE; DROP FUNCTION change_daily_results CASCADE;
DROP FUNCTION remove_daily_results CASCADE;
"""
BACK = f"""
{single.TRIGGERS}
{by_statement.DROP} {by_statement.CHANGED}
{single.TOTALS.format(rows="positions")}
"""
AMOUNT = {"decimal_places": 18, "max_digits": 38}


class Migration(migrations.Migration):

    dependencies = [
        ("agents", "0007_last_entry"),
        ("positions", "0013_daily_pnl_summary"),
    ]

    operations = [
        migrations.RunSQL(DROP, BACK),
        migrations.DeleteModel(name="DailyResult"),
        migrations.CreateModel(
            name="PnlPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("dimension", models.CharField(help_text="total, day, token, side, exit_reason, hour, author, posts", max_length=12)),
                ("key", models.CharField(help_text="of the dimension: 2026-03-02, ETH …; hour: UTC hour of the entry; author: id of the account", max_length=40)),
                ("closed", models.DecimalField(help_text="closed positions; one on posts of several authors counts for each by their share", **AMOUNT)),
                ("winners", models.DecimalField(help_text="of them those with a profit after all costs, the profit share included", **AMOUNT)),
                ("trades", models.BigIntegerField(help_text="closed positions, each as one, whatever the author's share")),
                ("won", models.DecimalField(help_text="PnL of the winners after all costs, USDC", **AMOUNT)),
                ("lost", models.DecimalField(help_text="PnL of the others after all costs, USDC, zero or negative", **AMOUNT)),
                ("venue_fees", models.DecimalField(help_text="USDC", **AMOUNT)),
                ("platform_fees", models.DecimalField(help_text="USDC", **AMOUNT)),
                ("profit_share", models.DecimalField(help_text="USDC", **AMOUNT)),
                ("gas_usd", models.DecimalField(help_text="USD, paid by the platform; in no PnL", **AMOUNT)),
                ("slippage_usd", models.DecimalField(help_text="USD lost (positive) between the quotes of the decisions and the fills; in the PnL", **AMOUNT)),
                ("turnover_usd", models.DecimalField(help_text="USD traded, entries and exits", **AMOUNT)),
                ("held_seconds", models.DecimalField(help_text="seconds from entry to close", **AMOUNT)),
                (
                    "deployment",
                    models.ForeignKey(
                        db_index=False, help_text="empty: the whole platform", null=True,
                        on_delete=django.db.models.deletion.PROTECT, related_name="pnl_parts", to="agents.deployment",
                    ),
                ),
            ],
            options={
                "db_table": "pnl_parts",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("dimension", "deployment", "key"), name="one_pnl_part", nulls_distinct=False
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PnlWatermark",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("until", models.DateTimeField(help_text="positions that closed before this are in the parts")),
            ],
            options={"db_table": "pnl_watermarks"},
        ),
    ]
