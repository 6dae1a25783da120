"""What stops the entries of a Safe is kept with its plan in force."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trading", "0009_guard_indexes")]
    operations = [
        migrations.AddField(
            model_name="safeplan",
            name="stops",
            field=models.JSONField(
                default=dict, help_text="what stops entries: token's address, or * for all -> reason code"
            ),
        ),
        migrations.AddField(
            model_name="safeplan",
            name="failures_since",
            field=models.DateTimeField(
                help_text="orders that failed before this do not count: a person checked the Safe", null=True
            ),
        ),
    ]
