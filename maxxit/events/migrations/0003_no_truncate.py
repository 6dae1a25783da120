"""TRUNCATE passes row triggers; a statement trigger refuses it on events, too."""

from django.db import migrations

TRIGGER = """
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0002_append_only")]
    operations = [migrations.RunSQL(TRIGGER, "DROP TRIGGER events_no_truncate ON events")]
