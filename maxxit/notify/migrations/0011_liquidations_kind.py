"""A new kind, of events that may cost money within minutes: those who have chosen kinds get it."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("notify", "0010_choices_by_channel")]

    operations = [
        migrations.RunSQL(
            "UPDATE notification_settings SET kinds = array_append(kinds, 'liquidations') "
            "WHERE 'liquidations' <> ALL(kinds)",
            "UPDATE notification_settings SET kinds = array_remove(kinds, 'liquidations')",
        ),
    ]
