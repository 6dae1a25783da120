from django.db import migrations, models

FILL = """
INSERT INTO best_pnls (account, pnl)
SELECT account, max(pnl)
FROM (
    SELECT d.account, sum(s.equity - s.deposits) AS pnl
    FROM pnl_snapshots s JOIN agent_deployments d ON d.id = s.deployment_id
    GROUP BY d.account, s.day
) AS days
GROUP BY account
"""


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0001_initial'),
        ('positions', '0007_history_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='BestPnl',
            fields=[
                ('account', models.CharField(max_length=80, primary_key=True, serialize=False)),
                ('pnl', models.DecimalField(decimal_places=18, help_text='USD: equity less what was paid in, of all its deployments', max_digits=38)),
            ],
            options={
                'db_table': 'best_pnls',
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
