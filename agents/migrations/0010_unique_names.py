"""Let no two agents share a name: decisions and model calls are shown to customers by the name of their agent."""

from django.db import migrations, models

NUMBER_DUPLICATES = """
UPDATE agents SET name = left(name, 40) || ' #' || id
WHERE id NOT IN (SELECT min(id) FROM agents GROUP BY name)
"""


class Migration(migrations.Migration):

    dependencies = [("agents", "0009_customers")]

    operations = [
        migrations.RunSQL(NUMBER_DUPLICATES, migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="agent", name="one_agent_of_a_name_per_owner"),
        migrations.AlterField(
            model_name="agent",
            name="name",
            field=models.CharField(
                max_length=60,
                unique=True,
                help_text="decisions and model calls are recorded under it, and found by it; no two agents share it",
            ),
        ),
    ]
