from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("trading", "0030_funding")]
    operations = [ValidateConstraint("ledgerentry", "a_journal_has_a_known_kind")]
