"""New kinds: those who have chosen kinds get all but the moves of stops."""

from django.db import migrations

NEW = "ARRAY['trades', 'losses', 'authors']::varchar[]"


class Migration(migrations.Migration):

    dependencies = [("notify", "0013_alerted_events")]

    operations = [
        migrations.RunSQL(
            f"UPDATE notification_settings SET kinds = ARRAY(SELECT DISTINCT unnest(kinds || {NEW}))",  # noqa: S608 (constants)
            f"UPDATE notification_settings SET kinds = ARRAY(SELECT unnest(kinds) EXCEPT SELECT unnest({NEW}))",  # noqa: S608 (constants)
        ),
    ]
