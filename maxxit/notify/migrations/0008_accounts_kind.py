"""What was sent whatever a user chose is a kind now: those who have chosen keep it."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("notify", "0007_settings_and_paused_rules")]

    operations = [
        migrations.RunSQL(
            "UPDATE notification_settings SET kinds = array_append(kinds, 'accounts') WHERE 'accounts' <> ALL(kinds)",
            "UPDATE notification_settings SET kinds = array_remove(kinds, 'accounts')",
        ),
    ]
