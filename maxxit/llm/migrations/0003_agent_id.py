from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("llm", "0002_budgets_by_account_and_exports")]

    operations = [
        migrations.AddField(
            model_name="llmtrace",
            name="agent_id",
            field=models.BigIntegerField(help_text="the agent that it was asked for; empty: for all", null=True),
        ),
    ]
