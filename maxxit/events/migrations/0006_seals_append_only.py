"""Seals are written once, like the events that they cover."""

from django.db import migrations

TRIGGERS = """
CREATE TRIGGER event_seals_append_only BEFORE UPDATE OR DELETE ON event_seals
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_seals_no_truncate BEFORE TRUNCATE ON event_seals
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
UNDO = """
DROP TRIGGER event_seals_append_only ON event_seals;
DROP TRIGGER event_seals_no_truncate ON event_seals;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0005_event_seals")]
    operations = [migrations.RunSQL(TRIGGERS, UNDO)]
